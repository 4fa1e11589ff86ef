//! `new`: the next migration's files.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::source::Layout;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::migrate::flags::{ChangeArgs, Common, Intent};
use crate::migrate::naming::{self, NamingError, NewFile, Numbering};
use crate::output;

#[derive(Debug, Args)]
#[command(
    after_help = "Version and files follow what the directory has, and in an empty one what the layout's own \
                        tool does. An empty directory needs --layout."
)]
pub(in crate::migrate) struct NewArgs {
    /// What it does, in words: add_index_on_email
    #[arg(value_name = "NAME")]
    name: String,
    /// Number it with the next number
    #[arg(long, conflicts_with = "timestamp")]
    sequential: bool,
    /// Number it with the time, UTC
    #[arg(long)]
    timestamp: bool,
    /// Number it so
    #[arg(long = "as", value_name = "VERSION", conflicts_with_all = ["sequential", "timestamp"])]
    asked: Option<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// What `new` prints.
#[derive(Debug, Serialize)]
struct New {
    layout: String,
    version: String,
    files: Vec<PathBuf>,
}

impl NewArgs {
    pub(in crate::migrate) fn run(self, common: &Common) -> Result<Exit, Failure> {
        let name = words(&self.name)?;
        let dir = one_directory(common)?;
        let names = names_in(dir)?;
        let layout = layout(common)?;
        let asked = self.asked.as_deref();
        let version = naming::next_version(layout, &names, self.numbering(), asked, Timestamp::now())
            .map_err(of_naming)?;
        let files = naming::files(layout, &names, &version, &name);
        if self.change.intent() == Intent::Do {
            make(dir, &files)?;
        }
        let new = New {
            layout: layout.to_string(),
            version,
            files: files.iter().map(|file| dir.join(&file.path)).collect(),
        };
        output::print(common.answer.format, &new, |new| {
            new.files
                .iter()
                .map(|file| format!("{}\n", file.display()))
                .collect()
        })?;
        Ok(Exit::Ok)
    }

    fn numbering(&self) -> Option<Numbering> {
        match (self.sequential, self.timestamp) {
            (true, _) => Some(Numbering::Sequential),
            (false, true) => Some(Numbering::Timestamp),
            (false, false) => None,
        }
    }
}

fn of_naming(error: NamingError) -> Failure {
    let hint = match &error {
        NamingError::Mixed { .. } => Some("say which with --sequential or --timestamp"),
        NamingError::NoSuccessor { .. } => Some("say which version it is with --as VERSION"),
        NamingError::TimestampsOnly { .. } | NamingError::Form { .. } | NamingError::NotAbove { .. } => None,
    };
    let failure = Failure::usage(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// A name that every layout takes.
fn words(text: &str) -> Result<String, Failure> {
    let name = text.trim().replace([' ', '-'], "_");
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(plain) {
        return Err(Failure::usage(format!(
            "name the migration {text:?}: letters, digits and _ only"
        )));
    }
    Ok(name)
}

fn one_directory(common: &Common) -> Result<&Path, Failure> {
    match common.source.dirs.as_slice() {
        [dir] => Ok(dir),
        _ => Err(Failure::usage("several directories were named")
            .hint("name the one for the new migration with --dir")),
    }
}

/// Names of files and folders, in the directory and right below: pop's migrations may lie deeper.
fn names_in(dir: &Path) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for entry in read_dir(dir)? {
        let path = entry.map_err(|error| unreadable(dir, &error))?.path();
        if path.is_dir() {
            for entry in read_dir(&path)? {
                names.push(name_of(&entry.map_err(|error| unreadable(&path, &error))?.path()));
            }
        }
        names.push(name_of(&path));
    }
    Ok(names)
}

fn read_dir(dir: &Path) -> Result<fs::ReadDir, Failure> {
    fs::read_dir(dir).map_err(|error| unreadable(dir, &error))
}

fn unreadable(dir: &Path, error: &io::Error) -> Failure {
    let failure = Failure::usage(format!("read migrations from {}: {error}", dir.display()));
    failure.hint("name the directory with the migrations with --dir DIR")
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The layout that was named, or that the directory has for some dialect.
fn layout(common: &Common) -> Result<Layout, Failure> {
    if let Some(layout) = common.source.layout()? {
        return Ok(layout);
    }
    let mut failures = Vec::new();
    for dialect in [Dialect::Postgres, Dialect::MySql, Dialect::Sqlite] {
        match common.source.load(dialect) {
            Ok(set) => return Ok(set.layout),
            Err(failure) => failures.push(failure),
        }
    }
    let nothing = || Failure::usage("the layout is not known").hint("name it with --layout");
    Err(failures.into_iter().next().unwrap_or_else(nothing))
}

/// Makes all files or none, and never over another.
fn make(dir: &Path, files: &[NewFile]) -> Result<(), Failure> {
    for (at, file) in files.iter().enumerate() {
        let path = dir.join(&file.path);
        if let Err(error) = write(&path, &file.text) {
            for made in &files[..at] {
                // What is left then is an empty migration that was never there for anybody.
                let _ = fs::remove_file(dir.join(&made.path));
            }
            return Err(Failure::new(
                Exit::Error,
                format!("make {}: {error}", path.display()),
            ));
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())
}
