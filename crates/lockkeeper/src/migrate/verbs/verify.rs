//! `verify`: is a live database what it should be?

use std::path::PathBuf;

use clap::Args;
use lockkeeper_migrate::db::VerifyOutcome;
use lockkeeper_migrate::engine::{self, ScriptResult};
use lockkeeper_migrate::fingerprint::{self, Fingerprint};
use lockkeeper_migrate::rehearse::Rehearsal;
use lockkeeper_migrate::source;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::migrate::failure;
use crate::migrate::flags::{Common, DsnArg};
use crate::migrate::job::{Job, Missing};
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 everything agrees, 4 something does not.")]
pub(in crate::migrate) struct VerifyArgs {
    #[command(flatten)]
    dsn: DsnArg,
    #[command(flatten)]
    expected: ExpectedArgs,
}

/// Which schema is expected.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct ExpectedArgs {
    /// Expect the schema to have this fingerprint
    #[arg(long, value_name = "TEXT")]
    fingerprint: Option<String>,
    /// Expect the schema that this report of `rehearse` ended with
    #[arg(long, value_name = "FILE")]
    rehearsal: Option<PathBuf>,
    /// Expect this schema, as `diff --save` wrote it
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
}

/// What `verify` prints.
#[derive(Debug, Serialize)]
struct Summary {
    /// The database, without login.
    target: String,
    /// The version that was verified: the newest in the ledger.
    version: Option<String>,
    fingerprint: Fingerprint,
    /// Whether everything agrees.
    passed: bool,
    /// What does not, one sentence each.
    failures: Vec<String>,
    scripts: Vec<Script>,
}

/// One verify script.
#[derive(Debug, Serialize)]
struct Script {
    path: PathBuf,
    /// Why it failed; `null` when it passed.
    failure: Option<String>,
}

impl VerifyArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        let job = common.job(&self.dsn, Missing::Refuse)?;
        let expected = self.expected.read()?;
        let summary = verify(common, &job, expected.as_ref()).await?;
        output::print(common.answer.format, &summary, text)?;
        Ok(if summary.passed {
            Exit::Ok
        } else {
            Exit::WrongState
        })
    }
}

impl ExpectedArgs {
    fn read(&self) -> Result<Option<Fingerprint>, Failure> {
        if let Some(text) = &self.fingerprint {
            return Ok(Some(text.clone().into()));
        }
        if let Some(file) = &self.schema {
            let schema = fingerprint::read_schema(file).map_err(Failure::usage)?;
            return Ok(Some(schema.fingerprint()));
        }
        let Some(file) = &self.rehearsal else {
            return Ok(None);
        };
        let report = Rehearsal::read(file).map_err(Failure::usage)?;
        report.fingerprint.map(Some).ok_or_else(|| {
            Failure::usage(format!(
                "use {}: that rehearsal did not reach its end",
                file.display()
            ))
        })
    }
}

async fn verify(common: &Common, job: &Job, expected: Option<&Fingerprint>) -> Result<Summary, Failure> {
    let scripts = source::load_verify(&common.source.dirs, job.dsn.dialect()).map_err(failure::of_source)?;
    let checked = engine::check(&*job.database, &job.set, &scripts)
        .await
        .map_err(failure::of_engine)?;
    let schema = job.database.schema().await.map_err(failure::of_db)?;
    let mut failures = checked.verification.failures();
    if let Some(Err(mismatch)) = expected.map(|expected| expected.check(&schema)) {
        failures.push(mismatch.to_string());
    }
    Ok(Summary {
        target: job.dsn.place(),
        version: checked.version.map(|version| version.to_string()),
        fingerprint: schema.fingerprint(),
        passed: failures.is_empty(),
        failures,
        scripts: checked.verification.scripts.into_iter().map(script).collect(),
    })
}

fn script(result: ScriptResult) -> Script {
    Script {
        path: result.path,
        failure: match result.outcome {
            VerifyOutcome::Passed => None,
            VerifyOutcome::Failed(why) => Some(why),
        },
    }
}

fn text(summary: &Summary) -> String {
    let version = summary.version.as_deref().unwrap_or("none");
    if summary.passed {
        return format!(
            "schema version {version} verified, {} scripts passed, fingerprint {}\n",
            summary.scripts.len(),
            summary.fingerprint
        );
    }
    let failures: String = summary
        .failures
        .iter()
        .map(|failure| format!("failed to {failure}\n"))
        .collect();
    format!("schema version {version} is not verified\n{failures}")
}
