//! `adopt`: takes the history from another ledger over, after comparing it with the directory.

use clap::Args;
use lockkeeper_migrate::db::{Database, LedgerWrite};
use lockkeeper_migrate::engine::{self, Side};
use lockkeeper_migrate::ledger::{LedgerChoice, LedgerEntry};
use lockkeeper_migrate::plan::{self, VersionStatus};

use crate::exit::{Exit, Failure};
use crate::migrate::flags::{ChangeArgs, Common, DsnArg, Intent};
use crate::migrate::job::{Job, Missing};
use crate::migrate::recording::{self, Recorded};
use crate::migrate::{failure, plan_text};
use crate::output;
use crate::prompt::Answer;

#[derive(Debug, Args)]
pub(in crate::migrate) struct AdoptArgs {
    #[command(flatten)]
    dsn: DsnArg,
    /// The ledger that holds the history now: a tool's name, which is also the directory's layout unless --layout
    /// says otherwise; or own, to move it into the tool's table that --ledger names
    #[arg(long, value_name = "NAME")]
    from: LedgerChoice,
    #[command(flatten)]
    change: ChangeArgs,
}

/// The two ledgers of one database, and the directory they are compared with.
struct Adoption {
    job: Job,
    source: Box<dyn Database>,
    from: LedgerChoice,
    to: LedgerChoice,
}

/// What both say now.
struct Seen {
    records: Vec<LedgerWrite>,
    /// What the source says.
    history: Vec<LedgerEntry>,
    server: String,
}

impl AdoptArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        let adoption = Adoption::of(common, &self)?;
        let mode = self.change.intent();
        let seen = adoption.look().await?;
        let text = adoption.text(&seen);
        let question = format!("Record this on {}?", adoption.job.dsn);
        let answer = recording::confirm(common, mode, &text, &question)?;
        if mode == Intent::Do && answer == Answer::Yes {
            adoption.record(common, &seen).await?;
        }
        output::print(
            common.answer.format,
            &adoption.recorded(&seen, mode, answer),
            recording::sentence,
        )?;
        Ok(Exit::Ok)
    }
}

impl Adoption {
    fn of(common: &Common, args: &AdoptArgs) -> Result<Self, Failure> {
        let (from, to) = (args.from, common.source.ledger);
        let tool = match (from, to) {
            (LedgerChoice::Tool(tool), _) | (LedgerChoice::Own, LedgerChoice::Tool(tool)) if from != to => {
                tool
            }
            _ => {
                let failure = Failure::usage(format!("--from and --ledger both name the ledger {from}"));
                return Err(failure.hint("--ledger names where the history goes: own, unless told"));
            }
        };
        let dsn = common.database.dsn(&args.dsn)?;
        let set = common.source.load_as(dsn.dialect(), tool)?;
        let source = common.open_with(&dsn, Missing::Refuse, from);
        let database = common.open(&dsn, Missing::Refuse);
        Ok(Self {
            job: Job { dsn, set, database },
            source,
            from,
            to,
        })
    }

    async fn look(&self) -> Result<Seen, Failure> {
        let source = self.source.inspect().await.map_err(failure::of_db)?;
        let target = self.job.database.inspect().await.map_err(failure::of_db)?;
        if source.ledger.is_empty() {
            let text = format!(
                "adopt from {}: nothing is recorded in {}",
                self.from,
                self.from.table()
            );
            return Err(Failure::new(Exit::WrongState, text));
        }
        let from = Side {
            ledger: self.from,
            entries: &source.ledger,
        };
        let to = Side {
            ledger: self.to,
            entries: match (self.to, target.books.kept) {
                // What our own ledger says is from before the tool's was kept; recording replaces it.
                (LedgerChoice::Own, LedgerChoice::Tool(_)) => &[],
                _ => &target.ledger,
            },
        };
        let records = engine::transfer(&self.job.set, from, to, &crate::migrate::change::who());
        Ok(Seen {
            records: records.map_err(|error| Failure::new(Exit::WrongState, error))?,
            history: source.ledger,
            server: source.server,
        })
    }

    async fn record(&self, common: &Common, seen: &Seen) -> Result<(), Failure> {
        let (mut hand, _) = recording::take(common, &self.job).await?;
        // Nobody else of lockkeeper's comes in between from here on; the other tool may have, before.
        let now = self.look().await?;
        if recording::versions(&now.records) != recording::versions(&seen.records) {
            recording::release(hand).await?;
            return Err(recording::changed_meanwhile());
        }
        let recorded = hand.record(&now.records).await.map_err(failure::of_db);
        recording::release(hand).await?;
        recorded
    }

    fn text(&self, seen: &Seen) -> String {
        let rows = plan::status(&self.job.set, &seen.history);
        format!(
            "{} ({}), {} layout: the history of {} ({}) goes into {} ({})\n\n{}\n{} of these are new there\n",
            self.job.dsn,
            seen.server,
            self.job.set.layout,
            self.from,
            self.from.table(),
            self.to,
            self.to.table(),
            plan_text::status_table(&rows),
            seen.records.len()
        )
    }

    fn recorded(&self, seen: &Seen, mode: Intent, answer: Answer) -> Recorded {
        let rows = plan::status(&self.job.set, &seen.history);
        Recorded {
            target: self.job.dsn.place(),
            from: Some(self.from),
            ledger: self.to,
            versions: recording::versions(&seen.records),
            pending: rows
                .iter()
                .filter(|row| row.status == VersionStatus::Pending)
                .count(),
            declined: answer == Answer::No,
            dry_run: mode == Intent::Show,
        }
    }
}
