//! goose: `00001_create_users.sql` with both directions, parted by directives.

use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

use super::files::{Entry, read_with_directives};
use super::interpolate::interpolate;
use super::migration::{MigrationKind, Script};
use super::pairs::{Pairs, number};
use super::section::{Section, numbered, without_end};
use super::substitution::Substituted;
use super::transaction::FileRule;
use super::{
    Context, Direction, Environment, Found, Layout, Listing, Migration, Reach, Reader, Skipped, SourceError,
};

static DIRECTIVE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\s*--.*\+goose").expect("the pattern is a constant"));

/// Reads goose's directories.
#[derive(Debug, Clone, Copy)]
pub(super) struct GooseReader;

impl Reader for GooseReader {
    fn layout(&self) -> Layout {
        Layout::Goose
    }

    fn reach(&self) -> Reach {
        Reach::Directory
    }

    fn read(&self, listing: &Listing, context: &Context<'_>) -> Result<Found, SourceError> {
        let mut pairs = Pairs::<u64>::new();
        let mut found = Found::default();
        for entry in listing.entries.iter().filter(|e| self.reach().holds(e.depth)) {
            match parse_name(&entry.name) {
                Some((digits, name)) => pairs.add(version(digits, entry)?, Direction::Up, entry, name)?,
                None => found.skipped.push(Skipped::new(
                    &entry.path,
                    "its name is not of the form 00001_name.sql",
                )),
            }
        }
        for (version, pair) in pairs.into_iter() {
            let Some(file) = pair.up else { continue };
            let parts = read(&file.path, context)?;
            let migration = Migration::new(version, file.name, MigrationKind::Versioned, parts.up);
            found.migrations.push(migration.with_down(parts.down)?);
        }
        Ok(found)
    }
}

/// The digits before the first `_` and the name behind it.
pub(super) fn parse_name(file_name: &str) -> Option<(&str, &str)> {
    let (digits, name) = file_name.strip_suffix(".sql")?.split_once('_')?;
    let numbered = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    numbered.then_some((digits, name))
}

fn version(digits: &str, entry: &Entry) -> Result<u64, SourceError> {
    match number::<i64>(digits, entry, Layout::Goose)? {
        version @ 1.. => Ok(version.unsigned_abs()),
        _ => Err(SourceError::BadVersion {
            path: entry.path.clone(),
            layout: Layout::Goose,
            problem: "it begins with 1".to_owned(),
        }),
    }
}

struct Scripts {
    up: Script,
    down: Option<Result<Script, SourceError>>,
}

fn read(path: &Path, context: &Context<'_>) -> Result<Scripts, SourceError> {
    let text = read_with_directives(path, &DIRECTIVE)?.text;
    let parts =
        Parts::of(&text, &context.options.environment).map_err(|(line, problem)| SourceError::Content {
            path: path.to_owned(),
            line,
            problem,
        })?;
    let dialect = context.dialect;
    let rule = match parts.transaction {
        Transaction::Usual => FileRule::by_dialect(dialect),
        Transaction::None => FileRule::AskedForNone {
            how: "it says +goose NO TRANSACTION",
        },
    };
    let script = |part: Part| Script::of_section(path, part.section, &part.blocks, dialect, &rule);
    Ok(Scripts {
        up: script(parts.up)?,
        down: parts.down.map(script),
    })
}

/// Line and problem.
type Wrong = (u32, String);

/// A directive of goose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Annotation {
    Up,
    Down,
    StatementBegin,
    StatementEnd,
    NoTransaction,
    EnvsubOn,
    EnvsubOff,
}

impl Annotation {
    const NAMES: [(&'static str, Self); 7] = [
        ("Up", Self::Up),
        ("Down", Self::Down),
        ("StatementBegin", Self::StatementBegin),
        ("StatementEnd", Self::StatementEnd),
        ("NO TRANSACTION", Self::NoTransaction),
        ("ENVSUB ON", Self::EnvsubOn),
        ("ENVSUB OFF", Self::EnvsubOff),
    ];

    /// Reads a line; `None` when it is no directive. Every `--` in it goes, as goose does it.
    fn of(line: &str) -> Result<Option<Self>, String> {
        if !line.trim().starts_with("--") || !line.contains("+goose") {
            return Ok(None);
        }
        if line.starts_with([' ', '\t']) {
            return Err("a goose directive must begin the line, without white space before it".to_owned());
        }
        let command = line.replace("--", "").replacen("+goose", "", 1);
        let command = command.trim();
        let known = Self::NAMES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(command));
        known.map(|(_, annotation)| Some(*annotation)).ok_or_else(|| {
            let names = Self::NAMES.map(|(name, _)| name).join(", ");
            format!("+goose {command:?} is no directive of goose; it knows {names}")
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transaction {
    Usual,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Envsub {
    On,
    Off,
}

/// One direction of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Part {
    section: Section,
    /// What lies between StatementBegin and StatementEnd, as ranges of the section's text.
    blocks: Vec<std::ops::Range<usize>>,
}

/// A file, parted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    up: Part,
    down: Option<Part>,
    transaction: Transaction,
}

/// Where the parser is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    BeforeUp,
    Up,
    Down,
}

/// goose's own state machine, line by line.
struct Parser<'a> {
    environment: &'a Environment,
    parts: Parts,
    place: Place,
    envsub: Envsub,
    /// Line of the open StatementBegin, and where its block begins in the section's text.
    block: Option<(u32, usize)>,
    /// Line on which a statement began that has no end yet.
    unfinished: Option<u32>,
}

impl Parts {
    fn of(text: &str, environment: &Environment) -> Result<Self, Wrong> {
        let mut parser = Parser {
            environment,
            parts: Self {
                up: Part::default(),
                down: None,
                transaction: Transaction::Usual,
            },
            place: Place::BeforeUp,
            envsub: Envsub::Off,
            block: None,
            unfinished: None,
        };
        for (number, line) in numbered(text) {
            match Annotation::of(without_end(line)).map_err(|problem| (number, problem))? {
                Some(annotation) => parser.direct(annotation, number, line)?,
                None => parser.take(number, line)?,
            }
        }
        parser.finish()
    }
}

impl Parser<'_> {
    fn direct(&mut self, annotation: Annotation, number: u32, line: &str) -> Result<(), Wrong> {
        let wrong = |problem: &str| Err((number, problem.to_owned()));
        match (annotation, self.place, self.block) {
            (Annotation::Up, Place::BeforeUp, _) => self.place = Place::Up,
            (Annotation::Up, ..) => return wrong("+goose Up stands here for the second time"),
            (Annotation::Down, Place::Up, None) => {
                self.check_finished()?;
                let mut down = Part::default();
                for _ in 1..number {
                    down.section.leave_out();
                }
                self.parts.down = Some(down);
                self.place = Place::Down;
            }
            (Annotation::Down, Place::BeforeUp, _) => return wrong("+goose Down comes before +goose Up"),
            (Annotation::Down, Place::Down, _) => {
                return wrong("+goose Down stands here for the second time");
            }
            (Annotation::Down | Annotation::StatementBegin, _, Some((begun, _))) => {
                return Err((
                    number,
                    format!("the +goose StatementBegin of line {begun} has no StatementEnd"),
                ));
            }
            (Annotation::StatementBegin, Place::BeforeUp, _) => {
                return wrong("+goose StatementBegin comes before +goose Up");
            }
            (Annotation::StatementBegin, ..) => {
                self.leave_out();
                self.block = Some((number, self.part().section.text().len()));
                return Ok(());
            }
            (Annotation::StatementEnd, _, None) => {
                return wrong("+goose StatementEnd has no StatementBegin before it");
            }
            (Annotation::StatementEnd, _, Some((_, start))) => {
                self.block = None;
                self.unfinished = None;
                let part = self.part();
                part.blocks.push(start..part.section.text().len());
                // The block's last statement may lack its semicolon.
                part.section.show(line, ";\n");
                return Ok(());
            }
            (Annotation::NoTransaction, ..) => self.parts.transaction = Transaction::None,
            (Annotation::EnvsubOn, ..) => self.envsub = Envsub::On,
            (Annotation::EnvsubOff, ..) => self.envsub = Envsub::Off,
        }
        self.leave_out();
        Ok(())
    }

    fn take(&mut self, number: u32, line: &str) -> Result<(), Wrong> {
        let bare = without_end(line);
        // Between statements goose passes comments over, also where variables are replaced.
        let between = self.unfinished.is_none() && (bare.trim().starts_with("--") || bare.trim().is_empty());
        match self.place {
            Place::BeforeUp if between => self.leave_out(),
            Place::BeforeUp => {
                return Err((number, "only comments may stand before -- +goose Up".to_owned()));
            }
            Place::Up | Place::Down if between => self.part().section.keep(line),
            Place::Up | Place::Down => self.take_statement(number, line, bare)?,
        }
        Ok(())
    }

    fn take_statement(&mut self, number: u32, line: &str, bare: &str) -> Result<(), Wrong> {
        let run = match self.envsub {
            Envsub::Off => Substituted::plain(line.to_owned()),
            Envsub::On => {
                let mut run = interpolate(bare, self.environment).map_err(|problem| (number, problem))?;
                run.push(&line[bare.len()..]);
                run
            }
        };
        self.unfinished.get_or_insert(number);
        if self.block.is_none() && ends_with_semicolon(&run.text) {
            self.unfinished = None;
        }
        self.part().section.show_values(line, run);
        Ok(())
    }

    /// The direction that is being read. Before `Up` nothing is put into it.
    fn part(&mut self) -> &mut Part {
        match self.parts.down.as_mut() {
            Some(down) if self.place == Place::Down => down,
            _ => &mut self.parts.up,
        }
    }

    fn leave_out(&mut self) {
        self.part().section.leave_out();
    }

    /// goose takes no statement of `Up` whose line does not end with a semicolon.
    fn check_finished(&self) -> Result<(), Wrong> {
        match self.unfinished {
            Some(line) => Err((
                line,
                "goose wants a semicolon at the end of the statement that begins here".to_owned(),
            )),
            None => Ok(()),
        }
    }

    fn finish(self) -> Result<Parts, Wrong> {
        if let Some((line, _)) = self.block {
            return Err((line, "this +goose StatementBegin has no StatementEnd".to_owned()));
        }
        match self.place {
            Place::BeforeUp => {
                return Err((
                    1,
                    "it has no -- +goose Up, without which goose runs nothing".to_owned(),
                ));
            }
            Place::Up => self.check_finished()?,
            // goose finds this out when it goes down; what is meant is clear.
            Place::Down => {}
        }
        Ok(self.parts)
    }
}

/// Whether the last word before a comment ends with a semicolon.
fn ends_with_semicolon(line: &str) -> bool {
    let words = line.split_whitespace().take_while(|word| !word.starts_with("--"));
    words.last().is_some_and(|word| word.ends_with(';'))
}

#[cfg(test)]
mod tests;
