//! `lint`: what is worth a second look before it runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::dsn::Dsn;
use lockkeeper_migrate::plan::{self, VersionStatus};
use lockkeeper_migrate::source::{Migration, MigrationSet};
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};
use crate::lint::{self, Budget, Finding, Level, Options, Rehearsed};
use crate::migrate::failure;
use crate::migrate::flags::{self, Common, DsnArg};
use crate::migrate::job::Missing;
use crate::output;

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 nothing but notes and warnings, 1 an error was found (with --deny-warnings: or a \
                        warning), 2 it could not be asked so. Silence a rule in place, with a reason: \
                        -- lockkeeper:ignore RULE: reason"
)]
pub(in crate::migrate) struct LintArgs {
    #[command(flatten)]
    dsn: DsnArg,
    /// Without a DSN: the dialect to read the directory for; all migrations are looked at then
    #[arg(long, value_name = "NAME")]
    dialect: Option<Dialect>,
    /// With a DSN: look at all migrations, not only at what is pending
    #[arg(long)]
    all: bool,
    /// The schema version that the oldest release in use was written for: what a later one takes away is an error
    #[arg(long, value_name = "VERSION")]
    min_version: Option<String>,
    /// How long writes may be refused; needs --rehearsal
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, requires = "rehearsal")]
    budget: Option<Duration>,
    /// The report of rehearse --format json, for its times
    #[arg(long, value_name = "FILE", requires = "budget")]
    rehearsal: Option<PathBuf>,
    /// End with code 1 on warnings too
    #[arg(long)]
    deny_warnings: bool,
}

/// What `lint` prints.
#[derive(Debug, Serialize)]
struct Linted {
    dialect: Dialect,
    layout: String,
    /// How many migrations were looked at.
    migrations: usize,
    errors: usize,
    warnings: usize,
    notes: usize,
    silenced: usize,
    findings: Vec<Finding>,
}

impl LintArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        let dsn = common.database.optional(&self.dsn)?;
        let dialect = self.dialect_of(dsn.as_ref())?;
        let set = common.source.load(dialect)?;
        let options = self.options()?;
        let migrations = match dsn.filter(|_| !self.all) {
            Some(dsn) => pending(common, &dsn, &set).await?,
            None => set.migrations.iter().map(AsRef::as_ref).collect(),
        };
        let findings = lint::lint(&set, dialect, &migrations, &options);
        let linted = Linted::of(&set, dialect, migrations.len(), findings);
        output::print(common.answer.format, &linted, text)?;
        let denied = match self.deny_warnings {
            true => linted.errors + linted.warnings,
            false => linted.errors,
        };
        Ok(match denied {
            0 => Exit::Ok,
            _ => Exit::Error,
        })
    }

    fn dialect_of(&self, dsn: Option<&Dsn>) -> Result<Dialect, Failure> {
        match (self.dialect, dsn) {
            (None, Some(dsn)) => Ok(dsn.dialect()),
            (Some(dialect), None) => Ok(dialect),
            (Some(dialect), Some(dsn)) if dsn.dialect() == dialect => Ok(dialect),
            (Some(_), Some(_)) => Err(Failure::usage("--dialect and the DSN name different dialects")),
            (None, None) => Err(
                Failure::usage("the rules differ in each dialect, and none was named")
                    .hint("name it with --dialect postgres, mysql or sqlite, or give a DSN"),
            ),
        }
    }

    fn options(&self) -> Result<Options, Failure> {
        let oldest_in_use = self.min_version.as_deref().map(flags::version).transpose()?;
        let budget = match (self.budget, &self.rehearsal) {
            (Some(limit), Some(file)) => Some(Budget {
                limit,
                rehearsed: rehearsed(file)?,
            }),
            _ => None,
        };
        Ok(Options {
            oldest_in_use,
            budget,
        })
    }
}

async fn pending<'a>(
    common: &Common,
    dsn: &Dsn,
    set: &'a MigrationSet,
) -> Result<Vec<&'a Migration>, Failure> {
    // A file that is not there yet is one where everything is pending. Looking does not make it.
    let inspection = common.open(dsn, Missing::Make).inspect().await;
    let rows = plan::status(set, &inspection.map_err(failure::of_db)?.ledger);
    let pending = rows.iter().filter(|row| row.status == VersionStatus::Pending);
    Ok(pending
        .filter_map(|row| set.get(&row.version).map(AsRef::as_ref))
        .collect())
}

/// What is read of a rehearsal's report.
#[derive(Debug, Deserialize)]
struct Rehearsal {
    migrations: Vec<Trial>,
}

#[derive(Debug, Deserialize)]
struct Trial {
    version: SchemaVersion,
    checksum: String,
    up: Run,
}

#[derive(Debug, Deserialize)]
struct Run {
    duration_ms: u64,
}

/// How long the first way up of each migration took.
fn rehearsed(file: &Path) -> Result<Rehearsed, Failure> {
    let unreadable =
        |error: String| Failure::usage(format!("read the rehearsal {}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(error.to_string()))?;
    let rehearsal: Rehearsal = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    let times = rehearsal.migrations.into_iter().map(|trial| {
        let took = Duration::from_millis(trial.up.duration_ms);
        ((trial.version, trial.checksum), took)
    });
    Ok(Rehearsed(times.collect()))
}

impl Linted {
    fn of(set: &MigrationSet, dialect: Dialect, migrations: usize, findings: Vec<Finding>) -> Self {
        let open = |level| {
            findings
                .iter()
                .filter(|f| f.silenced.is_none() && f.level == level)
                .count()
        };
        Self {
            dialect,
            layout: set.layout.to_string(),
            migrations,
            errors: open(Level::Error),
            warnings: open(Level::Warning),
            notes: open(Level::Note),
            silenced: findings
                .iter()
                .filter(|finding| finding.silenced.is_some())
                .count(),
            findings,
        }
    }
}

fn text(linted: &Linted) -> String {
    let open = linted
        .findings
        .iter()
        .filter(|finding| finding.silenced.is_none());
    let line = |finding: &Finding| {
        let Finding {
            path,
            line,
            level,
            rule,
            message,
            help,
            ..
        } = finding;
        let help = help
            .as_ref()
            .map(|help| format!("    help: {help}\n"))
            .unwrap_or_default();
        format!(
            "{}:{line}: {level}: {}: {message}\n{help}",
            path.display(),
            rule.name()
        )
    };
    let Linted {
        migrations,
        errors,
        warnings,
        notes,
        silenced,
        ..
    } = linted;
    open.map(line).collect::<String>()
        + &format!(
            "{migrations} migrations: {errors} errors, {warnings} warnings, {notes} notes, {silenced} silenced\n"
        )
}
