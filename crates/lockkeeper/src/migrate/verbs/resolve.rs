//! `resolve`: a person says what became of a statement in doubt.

use clap::{Args, ValueEnum};
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::db::{Claim, Doubt, Hand, Resolution, Ruling};
use lockkeeper_migrate::source::Direction;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::migrate::flags::{Common, DsnArg};
use crate::migrate::job::{Job, Missing};
use crate::migrate::progress::Reporter;
use crate::migrate::{change, failure};
use crate::output;

#[derive(Debug, Args)]
#[command(
    after_help = "Look at the database first: `up` and `status` name the statement and what was seen. \
                        Afterwards `up` (or `down`) goes on."
)]
pub(in crate::migrate) struct ResolveArgs {
    /// The version whose statement is in doubt
    // Not named `version`: that is clap's own flag.
    #[arg(value_name = "VERSION")]
    of: String,
    #[command(flatten)]
    dsn: DsnArg,
    /// What became of the statement
    #[arg(long = "as", value_name = "RULING")]
    ruling: RulingArg,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RulingArg {
    /// It took effect: go on behind it
    Done,
    /// It did not, or what it left has been removed: run it again
    NotDone,
}

impl From<RulingArg> for Ruling {
    fn from(ruling: RulingArg) -> Self {
        match ruling {
            RulingArg::Done => Self::Done,
            RulingArg::NotDone => Self::NotDone,
        }
    }
}

/// What `resolve` prints.
#[derive(Debug, Serialize)]
struct Resolved {
    /// The database, without login.
    target: String,
    version: SchemaVersion,
    direction: Direction,
    /// Its place in the script, from 1.
    statement: u32,
    /// Where it stands, and what it is; `null` when the directory does not have it.
    line: Option<u32>,
    text: Option<String>,
    resolved_as: Ruling,
    resolved_by: String,
    reason: Option<String>,
}

impl ResolveArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        let job = common.job(&self.dsn, Missing::Refuse)?;
        let by = change::who();
        let reporter = Reporter::new();
        let claim = Claim::Standalone { who: by.clone() };
        let taken = job
            .database
            .take(&claim, common.limits.patience(), &reporter)
            .await;
        let mut hand = taken.map_err(failure::of_take)?;
        let resolved = self.settle(&mut *hand, &job, by).await;
        let released = hand.release().await;
        reporter.end();
        output::print(common.answer.format, &resolved?, sentence)?;
        released.map_err(failure::of_db)?;
        Ok(Exit::Ok)
    }

    async fn settle(&self, hand: &mut dyn Hand, job: &Job, by: String) -> Result<Resolved, Failure> {
        let doubts = hand.doubts().await.map_err(failure::of_db)?;
        let doubt = self.doubt(&doubts, job)?;
        let resolution = Resolution {
            ruling: self.ruling.into(),
            by,
            reason: self.reason.clone(),
        };
        hand.resolve(doubt, &resolution).await.map_err(failure::of_db)?;
        let script = job
            .set
            .get(&doubt.version)
            .and_then(|migration| migration.script(doubt.direction));
        let place = usize::try_from(doubt.statement).unwrap_or(0).wrapping_sub(1);
        let statement = script.and_then(|script| script.statements.get(place));
        Ok(Resolved {
            target: job.dsn.place(),
            version: doubt.version.clone(),
            direction: doubt.direction,
            statement: doubt.statement,
            line: statement.map(|statement| statement.line),
            text: statement.map(|statement| statement.shown().to_owned()),
            resolved_as: resolution.ruling,
            resolved_by: resolution.by,
            reason: resolution.reason,
        })
    }

    fn doubt<'a>(&self, doubts: &'a [Doubt], job: &Job) -> Result<&'a Doubt, Failure> {
        let version = SchemaVersion::from(self.of.as_str());
        let found = doubts.iter().find(|doubt| job.set.same(&doubt.version, &version));
        found.ok_or_else(|| {
            let failure = Failure::new(
                Exit::Error,
                format!("resolve version {version}: nothing is in doubt there"),
            );
            match doubts.first() {
                Some(doubt) => failure.hint(format!("in doubt is version {}", doubt.version)),
                None => failure.hint("nothing is in doubt at all: `up` goes on by itself after a crash"),
            }
        })
    }
}

fn sentence(resolved: &Resolved) -> String {
    let Resolved {
        version,
        direction,
        statement,
        resolved_as,
        resolved_by,
        ..
    } = resolved;
    format!("statement {statement} of {version} {direction} is {resolved_as}, says {resolved_by}\n")
}
