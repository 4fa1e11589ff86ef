//! `lockkeeper doctor`, and `migrate sql doctor`, which is the same.

use std::time::Duration;

use clap::Args;
use lockkeeper_migrate::db::{DatabaseOptions, Finding, FindingLevel};
use lockkeeper_migrate::doctor::{self, Diagnosis, Mending, Outcome};
use lockkeeper_migrate::dsn::Dsn;

use crate::exit::{Exit, Failure};
use crate::migrate::{of_take, who};
use crate::output::{self, Format};
use crate::prompt::{self, Answer};

/// Tell what is wrong with a database, and what to do about it; changes nothing
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 0: nothing is an error. 4: something is, and its remedy is printed with it."
)]
pub(crate) struct DoctorCommand {
    /// The database: postgres://…, mysql://… or sqlite://PATH
    #[arg(long, value_name = "DSN", env = "LOCKKEEPER_DSN", hide_env_values = true)]
    dsn: String,
    /// Mend what is safe to mend, asking first: left-over barrier triggers, the identity of a restored copy
    #[arg(long)]
    fix: bool,
    /// Do not ask
    #[arg(short = 'y', long)]
    yes: bool,
    /// Longest wait for each answer
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "10s")]
    timeout: Duration,
    /// How results are printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fix {
    Nothing,
    AskFirst,
    Now,
}

impl Fix {
    /// What the flags `--fix` and `--yes` ask for.
    pub(crate) fn of(fix: bool, yes: bool) -> Self {
        match (fix, yes) {
            (false, _) => Self::Nothing,
            (true, false) => Self::AskFirst,
            (true, true) => Self::Now,
        }
    }
}

impl DoctorCommand {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        let options = DatabaseOptions {
            connect_timeout: self.timeout,
            ..DatabaseOptions::default()
        };
        examine(&self.dsn, options, Fix::of(self.fix, self.yes), self.format).await
    }
}

/// Examines, mends what it is told to, and prints how it stands then.
pub(crate) async fn examine(
    dsn: &str,
    options: DatabaseOptions,
    fix: Fix,
    format: Format,
) -> Result<Exit, Failure> {
    let mut diagnosis = doctor::examine(dsn, options.clone()).await;
    if mend(&diagnosis, dsn, &options, fix).await? == Mended::Something {
        diagnosis = doctor::examine(dsn, options).await;
    }
    output::print(format, &diagnosis, text)?;
    Ok(if diagnosis.has_errors() {
        Exit::WrongState
    } else {
        Exit::Ok
    })
}

/// Whether another look is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mended {
    Nothing,
    Something,
}

async fn mend(
    diagnosis: &Diagnosis,
    dsn: &str,
    options: &DatabaseOptions,
    fix: Fix,
) -> Result<Mended, Failure> {
    let mut mended = Mended::Nothing;
    // One without a usable form has nothing to mend.
    let (Ok(dsn), true) = (Dsn::parse(dsn), fix != Fix::Nothing) else {
        return Ok(mended);
    };
    for mending in doctor::mendings(diagnosis) {
        if fix == Fix::AskFirst && prompt::ask(mending.question())? == Answer::No {
            // What comes after it rests on it.
            break;
        }
        doctor::mend(mending, &dsn, options.clone(), &who())
            .await
            .map_err(of_take)?;
        eprintln!("{}", done(mending));
        mended = Mended::Something;
    }
    Ok(mended)
}

fn done(mending: Mending) -> &'static str {
    match mending {
        Mending::AdoptCopy => "the gate row is this server's own now, and its gate is open",
        Mending::DropBarriers => "what opened fences had left behind is dropped",
    }
}

fn text(diagnosis: &Diagnosis) -> String {
    let mut text = match (&diagnosis.server, diagnosis.target.as_str()) {
        (_, "") => String::new(),
        (Some(server), target) => format!("{target} ({server})\n"),
        (None, target) => format!("{target}\n"),
    };
    for check in &diagnosis.checks {
        let outcome = match check.outcome {
            Outcome::Ok => "ok",
            Outcome::Findings => "see below",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "skipped",
        };
        text += &format!("  {:<8}{outcome}\n", check.name);
    }
    for finding in &diagnosis.findings {
        text += &described(finding);
    }
    text
}

fn described(finding: &Finding) -> String {
    let level = match finding.level {
        FindingLevel::Error => "error",
        FindingLevel::Warning => "warning",
        FindingLevel::Info => "info",
    };
    format!(
        "\n{level}: {} [{}]\n  remedy: {}\n",
        finding.message, finding.code, finding.remedy
    )
}
