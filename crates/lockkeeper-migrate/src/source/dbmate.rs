//! dbmate: `20200101000000_create_users.sql` with blocks for both directions, which may repeat.

use std::path::Path;
use std::sync::LazyLock;

use lockkeeper_core::version::SchemaVersion;
use regex::Regex;

use super::files::{Entry, line_of, read_with_directives};
use super::migration::{MigrationKind, Script};
use super::section::{Section, numbered};
use super::transaction::FileRule;
use super::{Context, Direction, Found, Layout, Listing, Migration, Reach, Reader, Skipped, SourceError};
use crate::dialect::Dialect;

static FILE_NAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^([0-9]+)(.*)\.sql$").expect("the pattern is a constant"));

/// The tool's own patterns; its white space is ASCII's.
static UP: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?m)^--[\t\n\f\r ]*migrate:up(?:[\t\n\f\r ]*$|[\t\n\f\r ]+[^\t\n\f\r ]+)")
        .expect("the pattern is a constant")
});

static DOWN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?m)^--[\t\n\f\r ]*migrate:down(?:[\t\n\f\r ]*$|[\t\n\f\r ]+[^\t\n\f\r ]+)")
        .expect("the pattern is a constant")
});

/// Reads dbmate's directories.
#[derive(Debug, Clone, Copy)]
pub(super) struct DbmateReader;

impl Reader for DbmateReader {
    fn layout(&self) -> Layout {
        Layout::Dbmate
    }

    fn reach(&self) -> Reach {
        Reach::Directory
    }

    fn read(&self, listing: &Listing, context: &Context<'_>) -> Result<Found, SourceError> {
        let mut found = Found::default();
        let mut files = Vec::new();
        for entry in listing.entries.iter().filter(|e| self.reach().holds(e.depth)) {
            match FILE_NAME.captures(&entry.name) {
                Some(parts) => files.push(File {
                    entry,
                    version: parts[1].into(),
                    name: parts[2].trim_start_matches('_').to_owned(),
                }),
                None => found.skipped.push(Skipped::new(
                    &entry.path,
                    "its name is not of the form 20200101000000_name.sql",
                )),
            }
        }
        files.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
        check_order(&files)?;
        for file in files {
            found.migrations.push(migration(file, context.dialect)?);
        }
        Ok(found)
    }
}

struct File<'a> {
    entry: &'a Entry,
    version: SchemaVersion,
    name: String,
}

/// The tool orders by the whole names; a database records versions only. Both must say the same.
fn check_order(files: &[File<'_>]) -> Result<(), SourceError> {
    let order = Layout::Dbmate.order();
    for pair in files.windows(2) {
        let (first, second) = (&pair[0], &pair[1]);
        match order.compare(&first.version, &second.version) {
            Some(std::cmp::Ordering::Less) => {}
            Some(std::cmp::Ordering::Equal) => {
                return Err(SourceError::DuplicateVersion {
                    version: first.version.clone(),
                    direction: Direction::Up,
                    first: first.entry.path.clone(),
                    second: second.entry.path.clone(),
                });
            }
            Some(std::cmp::Ordering::Greater) | None => {
                return Err(SourceError::AmbiguousOrder {
                    layout: Layout::Dbmate,
                    first: first.entry.path.clone(),
                    second: second.entry.path.clone(),
                });
            }
        }
    }
    Ok(())
}

fn migration(file: File<'_>, dialect: Dialect) -> Result<Migration, SourceError> {
    let path = &file.entry.path;
    let text = read_with_directives(path, &UP)?.text;
    let blocks = blocks(&text).map_err(|(at, problem)| SourceError::Content {
        path: path.clone(),
        line: line_of(&text.as_bytes()[..at]),
        problem: problem.to_owned(),
    })?;
    let script = |direction| script(path, &text, &blocks, direction, dialect);
    let up = script(Direction::Up)?;
    Migration::new(file.version, file.name, MigrationKind::Versioned, up)
        .with_down(Some(script(Direction::Down)))
}

/// Whether a block asks for a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transaction {
    Usual,
    None,
}

/// From one directive to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    direction: Direction,
    start: usize,
    transaction: Transaction,
}

/// Place in bytes, and problem.
type Wrong = (usize, &'static str);

/// Pairs of an up and a down block, in the file's order.
fn blocks(text: &str) -> Result<Vec<Block>, Wrong> {
    let ups = UP.find_iter(text).map(|m| m.start()).collect::<Vec<_>>();
    let Some(first) = ups.first() else {
        return Err((
            0,
            "it has no -- migrate:up at the begin of a line, without which dbmate runs nothing",
        ));
    };
    check_before(&text[..*first])?;
    let mut blocks = Vec::new();
    for (at, start) in ups.iter().enumerate() {
        let end = ups.get(at + 1).copied().unwrap_or(text.len());
        let mut downs = DOWN.find_iter(&text[*start..end]).map(|m| *start + m.start());
        let Some(down) = downs.next() else {
            return Err((
                *start,
                "this -- migrate:up has no -- migrate:down behind it, which dbmate requires",
            ));
        };
        if let Some(second) = downs.next() {
            return Err((second, "this -- migrate:down has no -- migrate:up of its own"));
        }
        for (direction, start) in [(Direction::Up, *start), (Direction::Down, down)] {
            blocks.push(Block {
                direction,
                start,
                transaction: options(&text[start..]),
            });
        }
    }
    Ok(blocks)
}

fn check_before(text: &str) -> Result<(), Wrong> {
    let mut at = 0;
    for (_, line) in numbered(text) {
        let bare = line.trim_ascii();
        if !bare.is_empty() && !bare.starts_with("--") {
            return Err((at, "only comments may stand before the first -- migrate:up"));
        }
        at += line.len();
    }
    Ok(())
}

/// The options behind a directive: pairs such as `transaction:false`, parted by white space.
fn options(block: &str) -> Transaction {
    let line = block.split('\n').next().unwrap_or_default();
    match line
        .split_ascii_whitespace()
        .rfind(|word| word.starts_with("transaction:"))
    {
        Some("transaction:false") => Transaction::None,
        Some(_) | None => Transaction::Usual,
    }
}

fn script(
    path: &Path,
    text: &str,
    blocks: &[Block],
    direction: Direction,
    dialect: Dialect,
) -> Result<Script, SourceError> {
    let own = || blocks.iter().filter(|b| b.direction == direction);
    let rule = if own().all(|b| b.transaction == Transaction::Usual) {
        FileRule::by_dialect(dialect)
    } else {
        FileRule::AskedForNone {
            how: "a block of it says transaction:false",
        }
    };
    // Only PostgreSQL can tell several transactions from one: a new enum value, for example, is usable in the
    // next one only.
    let bracketed = dialect == Dialect::Postgres && own().count() > 1;
    let section = section(
        text,
        blocks,
        direction,
        if bracketed { Brackets::Own } else { Brackets::None },
    );
    Script::of_section(path, section, &[], dialect, &rule)
}

/// Whether blocks get a BEGIN and COMMIT in place of the directives around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brackets {
    Own,
    None,
}

fn section(text: &str, blocks: &[Block], direction: Direction, brackets: Brackets) -> Section {
    let mut section = Section::default();
    let mut open = false;
    let mut at = 0;
    for (_, line) in numbered(text) {
        let block = blocks.iter().rfind(|b| b.start <= at);
        let is_first = block.is_some_and(|b| b.start == at);
        if is_first && std::mem::take(&mut open) {
            // The block's last statement may lack its semicolon.
            section.put(";COMMIT; ");
        }
        match block.filter(|b| b.direction == direction) {
            Some(block)
                if is_first && brackets == Brackets::Own && block.transaction == Transaction::Usual =>
            {
                section.show(line, "BEGIN;\n");
                open = true;
            }
            Some(_) => section.keep(line),
            None => section.leave_out(),
        }
        at += line.len();
    }
    if open {
        section.put("\n;COMMIT;");
    }
    section
}

#[cfg(test)]
mod tests;
