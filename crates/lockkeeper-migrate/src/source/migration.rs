//! What a migration directory becomes.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use lockkeeper_core::version::{SchemaVersion, VersionOrder};
use regex::Regex;
use serde::{Deserialize, Serialize};

use super::files::{ByteOrderMark, FileText, read_file};
use super::section::Section;
use super::substitution::{Substituted, shown};
use super::transaction::{FileRule, TransactionMode, decide};
use super::{Checksum, Layout, OutOfOrder, SourceError, placeholders};
use crate::dialect::Dialect;
use crate::ledger::AcceptedEdit;
use crate::sql::{Statement, split};

/// All migrations of a source, for one dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationSet {
    /// The layout that was read.
    pub layout: Layout,
    /// The layout's own order of versions.
    pub order: VersionOrder,
    /// The migrations, ascending in that order; no version is there twice.
    pub migrations: Vec<Arc<Migration>>,
    /// Flyway's baselines, ascending. On a database that has no migration yet, the highest one stands for every
    /// version up to its own, and those are left out.
    pub baselines: Vec<Arc<Migration>>,
    /// Whether a version below an applied one may still be applied.
    pub out_of_order: OutOfOrder,
    /// The files that are no migration for this dialect, and why, by path.
    pub skipped: Vec<Skipped>,
    /// The edits of applied files that the directory's allow list accepts.
    pub accepted: Vec<AcceptedEdit>,
}

impl MigrationSet {
    /// The migration of this version. `1` and `001` are one version where the layout counts them as numbers.
    #[must_use]
    pub fn get(&self, version: &SchemaVersion) -> Option<&Arc<Migration>> {
        self.migrations.iter().find(|m| self.same(&m.version, version))
    }

    /// The newest version. Repeatable migrations have none.
    #[must_use]
    pub fn latest(&self) -> Option<&SchemaVersion> {
        let all = [
            self.baselines.last(),
            self.migrations.iter().rfind(|m| !m.kind.is_repeatable()),
        ];
        let versions = all.into_iter().flatten().map(|m| &m.version);
        versions.max_by(|a, b| self.order.compare(a, b).unwrap_or(Ordering::Equal))
    }

    /// The line of the allow list that accepts this migration's file as it is now.
    #[must_use]
    pub fn accepts(&self, migration: &Migration) -> Option<&AcceptedEdit> {
        self.accepted.iter().find(|edit| {
            edit.checksum == migration.up.checksum && self.same(&edit.version, &migration.version)
        })
    }

    /// Whether two texts name one version in this set's order.
    #[must_use]
    pub fn same(&self, a: &SchemaVersion, b: &SchemaVersion) -> bool {
        a == b || self.order.compare(a, b) == Some(Ordering::Equal)
    }
}

/// One version of a schema: how to get there, and back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// The version.
    pub version: SchemaVersion,
    /// The name from the file's name.
    pub name: String,
    /// When it is applied.
    pub kind: MigrationKind,
    /// How to get to this version.
    pub up: Script,
    /// How to get back, if the source has it.
    pub down: Option<Script>,
    /// Where and why the way back that the source has cannot be read as statements; then there is no `down`.
    pub down_problem: Option<String>,
}

impl Migration {
    /// A migration without a way back.
    pub(crate) fn new(version: SchemaVersion, name: String, kind: MigrationKind, up: Script) -> Self {
        Self {
            version,
            name,
            kind,
            up,
            down: None,
            down_problem: None,
        }
    }

    /// Takes the way back as it was read. One whose text is at fault keeps nobody from going up.
    pub(super) fn with_down(self, down: Option<Result<Script, SourceError>>) -> Result<Self, SourceError> {
        match down {
            None => Ok(self),
            Some(Ok(script)) => Ok(Self {
                down: Some(script),
                ..self
            }),
            Some(Err(SourceError::Statement { path, line, problem })) => {
                Ok(self.without_way_back(&path, line, &problem))
            }
            Some(Err(SourceError::Content { path, line, problem })) => {
                Ok(self.without_way_back(&path, line, &problem))
            }
            Some(Err(other)) => Err(other),
        }
    }

    fn without_way_back(self, path: &Path, line: u32, problem: &dyn fmt::Display) -> Self {
        Self {
            down_problem: Some(format!("{}:{line}: {problem}", path.display())),
            ..self
        }
    }

    /// The script for a direction; only a down script may be missing.
    #[must_use]
    pub fn script(&self, direction: Direction) -> Option<&Script> {
        match direction {
            Direction::Up => Some(&self.up),
            Direction::Down => self.down.as_ref(),
        }
    }
}

/// When a migration is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MigrationKind {
    /// Once, in the order of the versions.
    Versioned,
    /// Once, also when a higher version is applied already (refinery's `U`).
    Late,
    /// Behind all others, and again whenever its file has changed (Flyway's `R`).
    Repeatable,
    /// Instead of all versions up to its own, on a database without any (Flyway's `B`).
    Baseline,
}

impl MigrationKind {
    /// Whether it runs again when its file has changed.
    #[must_use]
    pub fn is_repeatable(self) -> bool {
        match self {
            Self::Repeatable => true,
            Self::Versioned | Self::Late | Self::Baseline => false,
        }
    }
}

/// Which way a script takes the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// To the migration's version.
    Up,
    /// From the migration's version to the one before it.
    Down,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

/// A migration file, read and split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The file.
    pub path: PathBuf,
    /// Its text without a byte order mark, line ends untouched. To show it; to run it, take
    /// [`statements`](Self::statements) or [`body`](Self::body): this may hold a BEGIN and COMMIT of its own.
    pub text: String,
    /// The checksum of the text.
    pub checksum: Checksum,
    /// Whether the statements run in one transaction.
    pub transaction: TransactionMode,
    /// The statements to run, with ranges into [`text`](Self::text). A BEGIN … COMMIT around the whole file is
    /// not among them: the transaction it asks for is the one that [`transaction`](Self::transaction) promises.
    pub statements: Vec<Statement>,
    /// Where that BEGIN and COMMIT stood.
    pub own_transaction: Option<[Range<usize>; 2]>,
    /// The text of the file, where [`text`](Self::text) is not all of it: it began with a byte order mark, or had
    /// placeholders. Other tools' checksums are of this.
    pub original: Option<String>,
}

impl Script {
    /// Reads `path` and splits it.
    pub(super) fn read(path: &Path, dialect: Dialect, rule: &FileRule) -> Result<Self, SourceError> {
        let FileText { text, mark } = read_file(path)?;
        Ok(Self::of(path, text, dialect, rule)?.marked(mark))
    }

    /// Remembers that the file began with a byte order mark.
    pub(super) fn marked(mut self, mark: ByteOrderMark) -> Self {
        if mark == ByteOrderMark::Present {
            self.original = Some(format!("\u{feff}{}", self.text));
        }
        self
    }

    /// Splits `text`, which stands in `path`.
    pub(super) fn of(
        path: &Path,
        text: String,
        dialect: Dialect,
        rule: &FileRule,
    ) -> Result<Self, SourceError> {
        let checksum = Checksum::of(&text);
        Self::build(path, Substituted::plain(text), &[], checksum, dialect, rule)
    }

    /// Splits a part of `path`, or what became of the file's text; lines are counted as in the file. `blocks` are
    /// ranges of its text that hold one statement each.
    pub(super) fn of_section(
        path: &Path,
        section: Section,
        blocks: &[Range<usize>],
        dialect: Dialect,
        rule: &FileRule,
    ) -> Result<Self, SourceError> {
        let checksum = section.checksum();
        Self::build(path, section.body, blocks, checksum, dialect, rule)
    }

    /// Splits a text of `path` with values in it, another of which is an edit.
    pub(super) fn of_values(
        path: &Path,
        text: Substituted,
        dialect: Dialect,
        rule: &FileRule,
    ) -> Result<Self, SourceError> {
        let checksum = Checksum::of(&text.text);
        Self::build(path, text, &[], checksum, dialect, rule)
    }

    /// Splits `text` of `path` after its placeholders were replaced. The checksum is that of the file: another
    /// value is no edit.
    pub(super) fn with_placeholders(
        path: &Path,
        text: &str,
        dialect: Dialect,
        rule: &FileRule,
        values: &BTreeMap<String, String>,
    ) -> Result<Self, SourceError> {
        let replaced = placeholders::replace(path, text, values)?;
        Self::instead(path, text, replaced, dialect, rule)
    }

    /// Splits what became of `text`, which is what counts for edits.
    pub(super) fn rendered(
        path: &Path,
        text: &str,
        rendered: String,
        dialect: Dialect,
        rule: &FileRule,
    ) -> Result<Self, SourceError> {
        Self::instead(path, text, Substituted::plain(rendered), dialect, rule)
    }

    fn instead(
        path: &Path,
        text: &str,
        run: Substituted,
        dialect: Dialect,
        rule: &FileRule,
    ) -> Result<Self, SourceError> {
        let script = Self::build(path, run, &[], Checksum::of(text), dialect, rule)?;
        Ok(Self {
            original: Some(text.to_owned()),
            ..script
        })
    }

    fn build(
        path: &Path,
        run: Substituted,
        blocks: &[Range<usize>],
        checksum: Checksum,
        dialect: Dialect,
        rule: &FileRule,
    ) -> Result<Self, SourceError> {
        let Substituted { text, values } = run;
        let mut statements = split(dialect, &text).map_err(|e| SourceError::Statement {
            path: path.to_owned(),
            line: e.line,
            problem: e.problem,
        })?;
        join(&text, &mut statements, blocks);
        for statement in &mut statements {
            statement.shown = shown(&text, &values, &statement.range);
        }
        let (transaction, statements, own_transaction) = decide(rule, dialect, statements);
        Ok(Self {
            path: path.to_owned(),
            text,
            checksum,
            transaction,
            statements,
            own_transaction,
            original: None,
        })
    }

    /// The script of a direction that has no file, where the layout allows that: it does nothing.
    pub(super) fn absent(other_direction: &Path) -> Self {
        Self {
            path: other_direction.to_owned(),
            text: String::new(),
            checksum: Checksum::of(""),
            transaction: TransactionMode::Transactional,
            statements: Vec::new(),
            own_transaction: None,
            original: None,
        }
    }

    /// All statements as one text, for a server that takes a whole file at once; `None` when a BEGIN or COMMIT
    /// of the file's own stands between them, or when there is no statement.
    #[must_use]
    pub fn body(&self) -> Option<&str> {
        let start = self.statements.first()?.range.start;
        let end = self.statements.last()?.range.end;
        let inside = |r: &Range<usize>| start <= r.start && r.end <= end;
        match &self.own_transaction {
            Some(ranges) if ranges.iter().any(inside) => None,
            _ => self.text.get(start..end),
        }
    }

    /// The file's text as it is on disk.
    #[must_use]
    pub fn raw(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.original.as_ref().unwrap_or(&self.text))
    }

    /// Whether it holds SQLite's `PRAGMA foreign_keys`, which does nothing inside a transaction.
    #[must_use]
    pub fn sets_foreign_keys(&self) -> bool {
        self.statements.iter().any(|s| s.kind.is_foreign_keys_pragma())
    }
}

/// Joins what was split inside one of `blocks`. Only a routine of MySQL's that has no BEGIN needs it: nothing in
/// its text says where it ends.
fn join(text: &str, statements: &mut Vec<Statement>, blocks: &[Range<usize>]) {
    for block in blocks {
        let inside = |s: &Statement| block.start <= s.range.start && s.range.end <= block.end;
        let Some(first) = statements.iter().position(inside) else {
            continue;
        };
        let count = statements[first..].iter().take_while(|s| inside(s)).count();
        if count > 1 && is_routine(&statements[first]) {
            let end = statements[first + count - 1].range.end;
            statements.drain(first + 1..first + count);
            let statement = &mut statements[first];
            statement.range.end = end;
            statement.text = text[statement.range.clone()].to_owned();
        }
    }
}

static ROUTINE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?is)^(?:CREATE|ALTER)\b.{0,200}?\b(?:TRIGGER|PROCEDURE|FUNCTION|EVENT)\b")
        .expect("the pattern is a constant")
});

fn is_routine(statement: &Statement) -> bool {
    ROUTINE.is_match(&statement.text)
}

/// A file that is no migration for the dialect that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// Why it was skipped.
    pub reason: String,
}

impl Skipped {
    pub(super) fn new(path: &Path, reason: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}
