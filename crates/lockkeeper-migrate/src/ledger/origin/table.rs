//! A state table as data.

/// What a column holds: says how it is read as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text or a number.
    Plain,
    /// True or false, read as `1` or `0`.
    Boolean,
    /// Bytes, read in hex.
    Bytes,
    /// A point in time, read as milliseconds since 1970.
    Time,
}

/// A column that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
}

impl Column {
    pub(super) const fn plain(name: &'static str) -> Self {
        let kind = Kind::Plain;
        Self { name, kind }
    }

    pub(super) const fn boolean(name: &'static str) -> Self {
        let kind = Kind::Boolean;
        Self { name, kind }
    }

    pub(super) const fn bytes(name: &'static str) -> Self {
        let kind = Kind::Bytes;
        Self { name, kind }
    }

    pub(super) const fn time(name: &'static str) -> Self {
        let kind = Kind::Time;
        Self { name, kind }
    }
}

/// A row as it was read: one text or NULL per [`Column`].
pub type Row = Vec<Option<String>>;

/// A value to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// A whole number, as its digits.
    Number(String),
    /// A text.
    Text(String),
    /// True or false.
    Boolean(bool),
    /// Bytes.
    Bytes(Vec<u8>),
    /// One more than the largest value of this column, or 1.
    Next,
    /// The database user.
    CurrentUser,
}

impl Value {
    /// A number without leading zeros. What has other characters than digits stays a text, which the database then
    /// refuses: a version must never become another one.
    pub(super) fn number(text: &str) -> Self {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Self::Text(text.to_owned());
        }
        let digits = text.trim_start_matches('0');
        Self::Number(if digits.is_empty() { "0" } else { digits }.to_owned())
    }

    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A change of the table's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// All rows go, in the way in which the tool has them go.
    Clear,
    /// One row more; the other columns get their defaults.
    Insert(Vec<(&'static str, Value)>),
    /// Every row whose column has this value changes.
    Update {
        /// What changes.
        set: Vec<(&'static str, Value)>,
        /// The column that is compared.
        column: &'static str,
        /// With what.
        value: Value,
    },
    /// Every row whose column has this value goes.
    Delete {
        /// The column that is compared.
        column: &'static str,
        /// With what.
        value: Value,
    },
}

/// A column that a table was found to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundColumn {
    /// Its name.
    pub name: String,
    /// Whether an insert must give it a value.
    pub required: bool,
}

/// A table that is not the tool's, or was changed too much to be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// The tool's table has this column, and this one does not.
    #[error("column {0} is missing")]
    Missing(&'static str),
    /// This column needs a value that the tool does not give.
    #[error("column {0} needs a value that the tool never writes")]
    Required(String),
}

/// Whether a table with these columns can be read and written as one with `columns`. Further columns do no harm as
/// long as they need no value: migrations add such to their tool's table.
pub(super) fn check_shape(columns: &[Column], found: &[FoundColumn]) -> Result<(), ShapeError> {
    for column in columns {
        if !found.iter().any(|f| f.name.eq_ignore_ascii_case(column.name)) {
            return Err(ShapeError::Missing(column.name));
        }
    }
    let known = |name: &str| columns.iter().any(|c| c.name.eq_ignore_ascii_case(name));
    match found.iter().find(|f| f.required && !known(&f.name)) {
        Some(column) => Err(ShapeError::Required(column.name.clone())),
        None => Ok(()),
    }
}
