//! A target's DSN, database and migrations, as this coordinator finds them.

use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use lockkeeper_core::spec::{DirectorySpec, DsnReference, ExternalSpec, TargetSpec};
use lockkeeper_migrate::db::{self, BreakGlass, Database, DatabaseOptions};
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::dsn::Dsn;
use lockkeeper_migrate::external::Rule;
use lockkeeper_migrate::ledger::{ChoiceError, LedgerChoice};
use lockkeeper_migrate::source::{
    self, Environment, Layout, MigrationSet, OutOfOrder, Programs, SourceOptions, VerifyScript,
};
use tokio::process::Command;

/// How long a DSN command may run.
const DSN_COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a target cannot be reached or its migrations not be read. Never holds a DSN.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The reference leads nowhere.
    #[error("target's dsn: {0}")]
    Reference(String),
    /// What it leads to is no DSN.
    #[error("target's dsn: {0}")]
    Dsn(String),
    /// The DSN's scheme is not the declared dialect.
    #[error("target's dialect is declared as {declared}, its dsn is for {found}")]
    Dialect {
        /// As declared.
        declared: String,
        /// As the DSN says.
        found: String,
    },
    /// The migrations cannot be read.
    #[error("{0}")]
    Source(String),
}

/// The way to the targets that are declared.
#[async_trait]
pub trait Targets: Send + Sync + fmt::Debug {
    /// Opens a target's database.
    ///
    /// # Errors
    /// The DSN cannot be found or parsed.
    async fn database(&self, spec: &TargetSpec) -> Result<Box<dyn Database>, AccessError>;

    /// Opens a target's database for a release by hand.
    ///
    /// # Errors
    /// The DSN cannot be found or parsed.
    async fn break_glass(&self, spec: &TargetSpec) -> Result<Box<dyn BreakGlass>, AccessError>;

    /// Reads a target's migrations.
    ///
    /// # Errors
    /// The directory cannot be read, or holds something that cannot be a migration set.
    async fn migrations(&self, spec: &TargetSpec, database: &dyn Database)
    -> Result<Migrations, AccessError>;

    /// Readies a target's external migrator.
    ///
    /// # Errors
    /// Its rule cannot be used, or its verify scripts not be read; or there are no such targets here.
    async fn external(&self, spec: &TargetSpec, database: &dyn Database) -> Result<External, AccessError> {
        let _ = database;
        Err(AccessError::Source(format!(
            "target {} has no external migrator here",
            spec.name
        )))
    }
}

/// Targets as their declarations say: DSNs and directories of this coordinator.
#[derive(Debug, Clone, Copy, Default)]
pub struct Declared;

#[async_trait]
impl Targets for Declared {
    async fn database(&self, spec: &TargetSpec) -> Result<Box<dyn Database>, AccessError> {
        database(spec).await
    }

    async fn break_glass(&self, spec: &TargetSpec) -> Result<Box<dyn BreakGlass>, AccessError> {
        Ok(db::break_glass(&dsn(spec).await?))
    }

    async fn migrations(
        &self,
        spec: &TargetSpec,
        database: &dyn Database,
    ) -> Result<Migrations, AccessError> {
        migrations(directory(spec)?, database.dialect()).await
    }

    async fn external(&self, spec: &TargetSpec, database: &dyn Database) -> Result<External, AccessError> {
        external(spec, database.dialect()).await
    }
}

fn directory(spec: &TargetSpec) -> Result<&DirectorySpec, AccessError> {
    spec.migrations.directory().ok_or_else(|| {
        AccessError::Source("target's migrations: they are another migrator's, not files".to_owned())
    })
}

async fn database(spec: &TargetSpec) -> Result<Box<dyn Database>, AccessError> {
    Ok(db::open(
        &dsn(spec).await?,
        DatabaseOptions {
            strength: spec.strength,
            ledger: ledger(spec)?,
            ..DatabaseOptions::default()
        },
    ))
}

/// The target's DSN, of the dialect that is declared.
async fn dsn(spec: &TargetSpec) -> Result<Dsn, AccessError> {
    let text = resolve(&spec.dsn).await?;
    let dsn = Dsn::parse(text.trim()).map_err(|e| AccessError::Dsn(e.to_string()))?;
    let found = dsn.dialect().to_string();
    match &spec.dialect {
        Some(declared) if *declared != found => Err(AccessError::Dialect {
            declared: declared.clone(),
            found,
        }),
        Some(_) | None => Ok(dsn),
    }
}

fn ledger(spec: &TargetSpec) -> Result<LedgerChoice, AccessError> {
    let Some(directory) = spec.migrations.directory() else {
        return Ok(LedgerChoice::Own);
    };
    let parsed = directory.ledger.parse();
    parsed.map_err(|error: ChoiceError| AccessError::Source(format!("target's migrations: {error}")))
}

async fn resolve(reference: &DsnReference) -> Result<String, AccessError> {
    let error = |text: String| Err(AccessError::Reference(text));
    match reference {
        DsnReference::Env(name) => match std::env::var(name) {
            Ok(dsn) => Ok(dsn),
            Err(_) => error(format!(
                "environment variable {name} is not set on this coordinator"
            )),
        },
        DsnReference::File(path) => match tokio::fs::read_to_string(path).await {
            Ok(dsn) => Ok(dsn),
            Err(e) => error(format!("cannot read file {path} on this coordinator: {e}")),
        },
        DsnReference::Command(command) => run(command).await,
    }
}

async fn run(command: &str) -> Result<String, AccessError> {
    let error = |text: String| AccessError::Reference(format!("command {command:?}: {text}"));
    let mut child = Command::new("sh");
    child
        .args(["-c", command])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(DSN_COMMAND_TIMEOUT, child.output())
        .await
        .map_err(|_| error(format!("did not end within {} s", DSN_COMMAND_TIMEOUT.as_secs())))?
        .map_err(|e| error(e.to_string()))?;
    if !output.status.success() {
        // Standard error may hold a secret of the command's own; its exit status does not.
        return Err(error(format!("ended with {}", output.status)));
    }
    String::from_utf8(output.stdout).map_err(|_| error("its output is not UTF-8".to_owned()))
}

/// A target's migrations and verification scripts.
#[derive(Debug, Clone)]
pub struct Migrations {
    /// The set.
    pub set: MigrationSet,
    /// `verify/*.sql`.
    pub verify: Vec<VerifyScript>,
}

/// A target's external migrator, ready to be run. `Debug` leaves the DSN out.
#[derive(Clone)]
pub struct External {
    /// As declared.
    pub spec: ExternalSpec,
    /// How its status is read.
    pub rule: Rule,
    /// `verify/*.sql`.
    pub verify: Vec<VerifyScript>,
    /// The target's DSN.
    pub dsn: String,
    /// The password in it, to be cut out of what commands print.
    pub password: Option<String>,
}

impl fmt::Debug for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("External")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

async fn external(spec: &TargetSpec, dialect: Dialect) -> Result<External, AccessError> {
    let declared = spec.migrations.external().ok_or_else(|| {
        AccessError::Source("target's migrations: no other migrator is declared".to_owned())
    })?;
    let rule = Rule::new(&declared.rule).map_err(|e| AccessError::Source(format!("target's {e}")))?;
    let dirs: Vec<PathBuf> = declared.verify.iter().map(PathBuf::from).collect();
    let loaded = tokio::task::spawn_blocking(move || source::load_verify(&dirs, dialect));
    let loaded = loaded.await.map_err(|e| AccessError::Source(e.to_string()))?;
    let verify = loaded.map_err(|e| AccessError::Source(format!("target's migrations: {e}")))?;
    let dsn = resolve(&spec.dsn).await?.trim().to_owned();
    let parsed = Dsn::parse(&dsn).map_err(|e| AccessError::Dsn(e.to_string()))?;
    Ok(External {
        spec: declared.clone(),
        rule,
        verify,
        password: parsed.secret().map(str::to_owned),
        dsn,
    })
}

async fn migrations(spec: &DirectorySpec, dialect: Dialect) -> Result<Migrations, AccessError> {
    let dirs: Vec<PathBuf> = spec.dir.to_vec().into_iter().map(PathBuf::from).collect();
    let layout = match spec.layout.as_str() {
        "auto" => None,
        name => Some(
            name.parse::<Layout>()
                .map_err(|e| AccessError::Source(e.to_string()))?,
        ),
    };
    let options = SourceOptions {
        layout,
        programs: if spec.skip_programs {
            Programs::Skip
        } else {
            Programs::Refuse
        },
        placeholders: spec.placeholders.clone(),
        environment: Environment::Process,
        out_of_order: if spec.allow_out_of_order {
            OutOfOrder::Allow
        } else {
            OutOfOrder::Refuse
        },
    };
    let load = move || {
        let set = source::load_with(&dirs, &options, dialect).map_err(|e| e.to_string())?;
        let verify = source::load_verify(&dirs, dialect).map_err(|e| e.to_string())?;
        Ok::<_, String>(Migrations { set, verify })
    };
    let loaded = tokio::task::spawn_blocking(load)
        .await
        .map_err(|e| AccessError::Source(e.to_string()))?;
    loaded.map_err(|e| AccessError::Source(format!("target's migrations: {e}")))
}
