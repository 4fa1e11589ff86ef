//! `validate`: the directory alone, and the database against it.

use std::sync::Arc;

use clap::Args;
use lockkeeper_migrate::db::Inspection;
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::engine;
use lockkeeper_migrate::plan::{self, Goal, PlanError, StatusRow, VersionStatus};
use lockkeeper_migrate::source::{self, MigrationSet, Skipped};
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::migrate::failure;
use crate::migrate::flags::{Common, DsnArg};
use crate::migrate::job::Missing;
use crate::output;

#[derive(Debug, Args)]
pub(in crate::migrate) struct ValidateArgs {
    #[command(flatten)]
    dsn: DsnArg,
    /// Without a DSN: the dialect to read the directory for; may be given more than once
    #[arg(long = "dialect", value_name = "NAME")]
    dialects: Vec<Dialect>,
}

/// What `validate` prints.
#[derive(Debug, Serialize)]
struct Validation {
    sources: Vec<Source>,
    /// The database, without login; `null` when only the directory was read.
    target: Option<String>,
    /// How the database contradicts the directory, one line each.
    problems: Vec<String>,
}

/// The directory as one dialect reads it.
#[derive(Debug, Clone, Serialize)]
struct Source {
    dialect: Dialect,
    layout: String,
    migrations: usize,
    /// Migrations that can be taken back.
    reversible: usize,
    /// Statements of all scripts, up and down.
    statements: usize,
    verify_scripts: usize,
    skipped: Vec<Skipped>,
    /// Ways back that cannot be split into statements: `up` runs, and `down` refuses to start.
    broken_downs: Vec<BrokenDown>,
}

/// A way back that cannot be read.
#[derive(Debug, Clone, Serialize)]
struct BrokenDown {
    version: String,
    /// File, line and what is wrong there.
    problem: String,
}

impl ValidateArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        let dsn = common.database.optional(&self.dsn)?;
        let dialects = match &dsn {
            Some(dsn) => vec![dsn.dialect()],
            None => self.dialects,
        };
        if dialects.is_empty() {
            return Err(
                Failure::usage("statements end differently in each dialect, and none was named")
                    .hint("name it with --dialect postgres, mysql or sqlite, or give a DSN"),
            );
        }
        let mut sources = Vec::new();
        for dialect in dialects {
            sources.push(Source::read(common, dialect)?);
        }
        let mut validation = Validation {
            sources: sources.iter().map(|(source, _)| source.clone()).collect(),
            target: None,
            problems: Vec::new(),
        };
        if let (Some(dsn), Some((_, set))) = (dsn, sources.first()) {
            let inspection = common.open(&dsn, Missing::Refuse).inspect().await;
            validation.target = Some(dsn.place());
            validation.problems = problems(set, &inspection.map_err(failure::of_db)?);
        }
        output::print(common.answer.format, &validation, text)?;
        Ok(match validation.problems.is_empty() {
            true => Exit::Ok,
            false => Exit::WrongState,
        })
    }
}

impl Source {
    fn read(common: &Common, dialect: Dialect) -> Result<(Self, MigrationSet), Failure> {
        let set = common.source.load(dialect)?;
        let scripts = source::load_verify(&common.source.dirs, dialect).map_err(failure::of_source)?;
        let statements = |migration: &source::Migration| {
            let down = migration.down.as_ref();
            migration.up.statements.len() + down.map_or(0, |down| down.statements.len())
        };
        let source = Self {
            dialect,
            layout: set.layout.to_string(),
            migrations: set.migrations.len(),
            reversible: set.migrations.iter().filter(|m| m.down.is_some()).count(),
            statements: set.migrations.iter().map(|m| statements(m)).sum(),
            verify_scripts: scripts.len(),
            skipped: set.skipped.clone(),
            broken_downs: broken_downs(&set),
        };
        Ok((source, set))
    }
}

fn broken_downs(set: &MigrationSet) -> Vec<BrokenDown> {
    let broken = |migration: &Arc<source::Migration>| {
        Some(BrokenDown {
            version: migration.version.to_string(),
            problem: migration.down_problem.clone()?,
        })
    };
    set.migrations.iter().filter_map(broken).collect()
}

/// Everything that would keep `up` from running, not only the first.
fn problems(set: &MigrationSet, inspection: &Inspection) -> Vec<String> {
    let history = match engine::history(inspection) {
        Ok(history) => history,
        Err(other) => return vec![other.to_string()],
    };
    let rows = plan::status(set, history);
    let mut problems: Vec<String> = rows.iter().filter_map(problem).collect();
    match plan::plan(set, history, &Goal::Latest) {
        Err(error @ (PlanError::OutOfOrder { .. } | PlanError::Dirty { .. })) => {
            problems.push(error.to_string())
        }
        Err(error) if problems.is_empty() => problems.push(error.to_string()),
        Ok(_) | Err(_) => {}
    }
    problems
}

fn problem(row: &StatusRow) -> Option<String> {
    let StatusRow {
        version,
        name,
        status,
        recorded: _,
    } = row;
    let what = match status {
        VersionStatus::Applied | VersionStatus::Pending | VersionStatus::BelowBaseline => return None,
        VersionStatus::Missing => "it is applied, and the directory lacks it",
        VersionStatus::Edited => "its file was edited after it was applied",
        VersionStatus::InDoubt => "one of its statements is in doubt",
    };
    Some(format!("version {version} {name}: {what}"))
}

fn text(validation: &Validation) -> String {
    let sources = validation.sources.iter().map(source_text);
    let problems = validation
        .problems
        .iter()
        .map(|problem| format!("problem: {problem}\n"));
    let target = validation
        .target
        .iter()
        .filter(|_| validation.problems.is_empty());
    let agreed = target.map(|target| format!("{target} agrees with the directory\n"));
    sources.chain(problems).chain(agreed).collect()
}

fn source_text(source: &Source) -> String {
    let Source {
        dialect,
        layout,
        migrations,
        reversible,
        statements,
        verify_scripts,
        skipped,
        broken_downs,
    } = source;
    let skipped = skipped
        .iter()
        .map(|skipped| format!("skipped {}: {}\n", skipped.path.display(), skipped.reason));
    let broken = broken_downs.iter().map(|broken| {
        format!(
            "warning: version {} cannot be taken back until its down migration is mended: {}\n",
            broken.version, broken.problem
        )
    });
    format!(
        "{layout} layout for {dialect}: {migrations} migrations ({reversible} reversible), {statements} statements, \
         {verify_scripts} verify scripts\n"
    ) + &skipped.chain(broken).collect::<String>()
}
