//! `diff`: how a database's schema differs from another one.

use std::path::{Path, PathBuf};

use clap::Args;
use lockkeeper_migrate::dsn::Dsn;
use lockkeeper_migrate::fingerprint::{self, Fingerprint, Schema, SchemaDiff};
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::migrate::flags::{Common, DsnArg, of_variable};
use crate::migrate::job::Missing;
use crate::migrate::{diff_text, failure};
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 the schemas are the same, 4 they differ.")]
pub(in crate::migrate) struct DiffArgs {
    #[command(flatten)]
    dsn: DsnArg,
    #[command(flatten)]
    reference: ReferenceArgs,
    /// Write the database's schema to this file, for a later --schema
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

/// What the database is compared with.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct ReferenceArgs {
    /// Compare with this database
    #[arg(long, value_name = "DSN")]
    with: Option<String>,
    /// Compare with the database whose DSN is in this environment variable
    #[arg(long, value_name = "NAME")]
    with_env: Option<String>,
    /// Compare with a schema that --save has written
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
}

/// What `diff` prints.
#[derive(Debug, Serialize)]
struct Summary {
    /// The database, without login.
    target: String,
    fingerprint: Fingerprint,
    /// What it was compared with; `null` when it was only saved.
    reference: Option<String>,
    reference_fingerprint: Option<Fingerprint>,
    /// Whether the two are the same.
    same: bool,
    /// From the reference to the database.
    #[serde(flatten)]
    diff: SchemaDiff,
}

impl DiffArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        let dsn = common.database.dsn(&self.dsn)?;
        let reference = self.reference.read(common, &dsn).await?;
        if reference.is_none() && self.save.is_none() {
            return Err(Failure::usage("nothing was named to compare with")
                .hint("use --with DSN, --with-env NAME or --schema FILE; --save FILE alone only saves"));
        }
        let database = common.open(&dsn, Missing::Refuse);
        let schema = database.schema().await.map_err(failure::of_db)?;
        if let Some(file) = &self.save {
            save(file, &schema)?;
        }
        let summary = summary(&dsn, &schema, reference);
        output::print(common.answer.format, &summary, text)?;
        Ok(if summary.same { Exit::Ok } else { Exit::WrongState })
    }
}

impl ReferenceArgs {
    /// The schema to compare with, and its name.
    async fn read(&self, common: &Common, dsn: &Dsn) -> Result<Option<(String, Schema)>, Failure> {
        if let Some(file) = &self.schema {
            let schema = fingerprint::read_schema(file).map_err(Failure::usage)?;
            if schema.dialect != dsn.dialect() {
                return Err(other_dialect(&file.display().to_string()));
            }
            return Ok(Some((file.display().to_string(), schema)));
        }
        let Some(text) = self.other_dsn()? else {
            return Ok(None);
        };
        let other = Dsn::parse(&text).map_err(failure::of_dsn)?;
        if other.dialect() != dsn.dialect() {
            return Err(other_dialect(&other.place()));
        }
        let database = common.open(&other, Missing::Refuse);
        let schema = database.schema().await.map_err(failure::of_db)?;
        Ok(Some((other.place(), schema)))
    }

    fn other_dsn(&self) -> Result<Option<String>, Failure> {
        match (&self.with, &self.with_env) {
            (Some(dsn), _) => Ok(Some(dsn.clone())),
            (None, Some(name)) => of_variable(name).map(Some),
            (None, None) => Ok(None),
        }
    }
}

fn other_dialect(what: &str) -> Failure {
    Failure::usage(format!("compare with {what}: it is of another dialect"))
}

fn save(file: &Path, schema: &Schema) -> Result<(), Failure> {
    let failed = |error: String| Failure::new(Exit::Error, format!("write {}: {error}", file.display()));
    let text = serde_json::to_string_pretty(schema).map_err(|error| failed(error.to_string()))?;
    std::fs::write(file, text + "\n").map_err(|error| failed(error.to_string()))
}

fn summary(dsn: &Dsn, schema: &Schema, reference: Option<(String, Schema)>) -> Summary {
    let diff = reference
        .as_ref()
        .map(|(_, reference)| fingerprint::diff(reference, schema))
        .unwrap_or_default();
    Summary {
        target: dsn.place(),
        fingerprint: schema.fingerprint(),
        reference_fingerprint: reference.as_ref().map(|(_, schema)| schema.fingerprint()),
        reference: reference.map(|(name, _)| name),
        same: diff.is_empty(),
        diff,
    }
}

fn text(summary: &Summary) -> String {
    let (target, fingerprint) = (&summary.target, &summary.fingerprint);
    match &summary.reference {
        None => format!("{target} has fingerprint {fingerprint}\n"),
        Some(reference) if summary.same => {
            format!("{target} and {reference} have the same schema, fingerprint {fingerprint}\n")
        }
        Some(reference) => format!(
            "--- {reference}\n+++ {target}\n{}",
            diff_text::differences(&summary.diff)
        ),
    }
}
