//! Constraints and indexes without a name of their own get one that counts: `t_ibfk_1`, `CONSTRAINT_2`. Which one
//! gets which number depends on what was there before, so they are told by their content here.

use std::sync::LazyLock;

use regex::Regex;

use super::Row;

/// `t_ibfk_1` (both), `CONSTRAINT_1` (MariaDB), `t_chk_1` (MySQL).
static COUNTED: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(.+_(ibfk|chk)_\d+|CONSTRAINT_\d+)$").ok());

fn is_counted(name: &str) -> bool {
    COUNTED.as_ref().is_some_and(|counted| counted.is_match(name))
}

/// Owner, the constraint's own name, definition: the name becomes `table.constraint`.
pub(super) fn constraint(row: Row) -> Row {
    with_content(row, "")
}

/// Owner, the index's own name, columns, …: likewise.
pub(super) fn index(row: Row) -> Row {
    with_content(row, "index ")
}

fn with_content(mut row: Row, what: &str) -> Row {
    let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
    let (table, name, content) = (text(0), text(1), text(2));
    let told = if is_counted(&name) {
        format!("{table}.({what}{content})")
    } else {
        format!("{table}.{name}")
    };
    if let Some(name) = row.get_mut(1) {
        *name = Some(told);
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_names_become_content() {
        let row = |name: &str| {
            [Some("t"), Some(name), Some("check (a > 0)")]
                .map(|v| v.map(str::to_owned))
                .to_vec()
        };
        for name in ["t_ibfk_1", "CONSTRAINT_2", "t_chk_12"] {
            assert_eq!(
                constraint(row(name))[1].as_deref(),
                Some("t.(check (a > 0))"),
                "{name}"
            );
        }
        for name in ["positive", "t_ibfk_x", "constraint"] {
            assert_eq!(constraint(row(name))[1], Some(format!("t.{name}")), "{name}");
        }
        assert_eq!(
            index(row("t_ibfk_1"))[1].as_deref(),
            Some("t.(index check (a > 0))")
        );
    }
}
