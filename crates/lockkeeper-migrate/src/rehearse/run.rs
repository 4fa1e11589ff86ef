//! The rehearsal: clone, run, drop, whatever happens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::clone;
use super::error::RehearseError;
use super::listen::Listener;
use super::order::{Content, Order, Reach};
use super::reach::beyond;
use super::report::{FORM, MigrationTrial, Rehearsal, Reversal};
use super::trial::{Stage, Tried, WHO};
use crate::db::scratch::{self, ScratchName, ScratchServer};
use crate::db::{self, Claim, DatabaseOptions, DbError, Detail, Hand, LedgerWrite, Observer, Provenance};
use crate::dsn::Dsn;
use crate::engine::{self, Prospect};
use crate::fingerprint::{Schema, diff};
use crate::ledger::LedgerEntry;
use crate::plan::Plan;
use crate::source::Direction;

/// How long the clone may take to be had: nobody else knows it.
const TAKE_LIMIT: Duration = Duration::from_secs(60);

/// How long the clone may take to be dropped.
const DROP_LIMIT: Duration = Duration::from_secs(60);

/// Rehearses what is pending. `stop` ends it early; the clone is dropped then too, as after every failure. When this
/// process is killed, the next rehearsal on that server drops it.
///
/// # Errors
///
/// When there is no report. A migration that fails is no error: the report says so.
pub async fn rehearse(
    order: &Order<'_>,
    observer: &dyn Observer,
    stop: impl Future<Output = ()>,
) -> Result<Rehearsal, RehearseError> {
    let began = Instant::now();
    let target = db::open(order.dsn, order.options.clone());
    let prospect = engine::prepare(&*target, order.set, &order.goal).await?;
    refuse(order, &prospect)?;
    let original = target.schema().await?;
    let mut server = scratch::scratch_server(order.place(), &order.options).await?;
    let swept = server.sweep(order.sweep_age).await?;
    let name = ScratchName::random();
    let rehearsed = tokio::select! {
        biased;
        () = stop => Err(RehearseError::Stopped),
        result = in_clone(order, &prospect, &original, &mut *server, &name, observer) => result,
    };
    // From here on nothing may be cut off: the future that worked in the clone is gone, with all its sessions.
    let mut report = drop_clone(&mut *server, &name, rehearsed).await?;
    report.swept = swept;
    report.duration_ms = millis(began.elapsed());
    Ok(report)
}

fn refuse(order: &Order<'_>, prospect: &Prospect) -> Result<(), RehearseError> {
    if order.place().dialect() != order.dsn.dialect() {
        let place = order.place().place();
        return Err(RehearseError::OtherDialect { place });
    }
    if let Some(row) = prospect
        .inspection
        .gate_row
        .as_ref()
        .filter(|row| row.is_closed())
    {
        return Err(RehearseError::GateClosed {
            epoch: row.gate_epoch,
            rollout: row.rollout.clone(),
        });
    }
    let database = order.dsn.database().unwrap_or_default();
    let found = match order.reach {
        Reach::Allow => Vec::new(),
        Reach::Refuse => beyond(&prospect.plan, order.dsn.dialect(), database),
    };
    if found.is_empty() {
        return Ok(());
    }
    Err(RehearseError::Beyond { found })
}

async fn drop_clone(
    server: &mut dyn ScratchServer,
    name: &ScratchName,
    rehearsed: Result<Rehearsal, RehearseError>,
) -> Result<Rehearsal, RehearseError> {
    let dropped = tokio::time::timeout(DROP_LIMIT, server.remove(name)).await;
    let dropped = dropped.unwrap_or_else(|_| {
        Err(DbError::TimedOut {
            what: "the clone to be dropped".to_owned(),
            blockers: Vec::new(),
        })
    });
    match (rehearsed, dropped) {
        (rehearsed, Ok(())) => rehearsed,
        // It was never made: the first failure says all.
        (Err(error @ RehearseError::Db(DbError::Permission { .. })), Err(_)) => Err(error),
        (rehearsed, Err(error)) => Err(RehearseError::NotDropped {
            name: name.to_string(),
            error,
            before: rehearsed.err().map(Box::new),
        }),
    }
}

async fn in_clone(
    order: &Order<'_>,
    prospect: &Prospect,
    original: &Schema,
    server: &mut dyn ScratchServer,
    name: &ScratchName,
    observer: &dyn Observer,
) -> Result<Rehearsal, RehearseError> {
    let began_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let look = scratch::look(order.dsn, &order.options).await?;
    server.create(name, &look).await?;
    let dsn = server.dsn(name)?;
    clone::fill(order, &prospect.inspection, &look, &dsn, observer).await?;
    server.tidy(name, &look).await?;
    let mut hand = take(order, &dsn, observer).await?;
    enter(&mut *hand, &prospect.inspection.ledger).await?;
    let cloned = hand.schema().await?;
    let difference = diff(original, &cloned);
    let mut report = Rehearsal {
        form: FORM.to_owned(),
        target: order.dsn.place(),
        dialect: order.dsn.dialect(),
        server: prospect.inspection.server.clone(),
        layout: order.set.layout.to_string(),
        began_at_unix_ms: millis(began_at),
        duration_ms: 0,
        with_data: order.content == Content::Rows,
        from: prospect.plan.from.clone(),
        to: prospect.plan.to.clone(),
        fingerprint_before: original.fingerprint(),
        fingerprint: None,
        clone_differs: (!difference.is_empty()).then_some(difference),
        migrations: Vec::new(),
        problems: Vec::new(),
        swept: Vec::new(),
    };
    if report.clone_differs.is_some() {
        let problem = "the clone differs from the target before anything ran, so its fingerprint will not be the target's";
        report.problems.push(problem.to_owned());
    }
    perform(order, prospect, &mut *hand, cloned, observer, &mut report).await?;
    hand.release().await?;
    Ok(report)
}

async fn take(order: &Order<'_>, dsn: &Dsn, observer: &dyn Observer) -> Result<Box<dyn Hand>, RehearseError> {
    let options = DatabaseOptions {
        create_if_missing: true,
        detail: Detail::Measured,
        ..order.options.clone()
    };
    let claim = Claim::Standalone { who: WHO.to_owned() };
    Ok(db::open(dsn, options).take(&claim, TAKE_LIMIT, observer).await?)
}

/// Makes the clone's ledger say what the target's does. Another tool's table was cloned with its rows.
async fn enter(hand: &mut dyn Hand, ledger: &[LedgerEntry]) -> Result<(), DbError> {
    let cloned = hand.ledger().await?;
    let missing: Vec<LedgerWrite> = ledger
        .iter()
        .filter(|entry| cloned.iter().all(|cloned| cloned.version != entry.version))
        .map(entered)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    hand.record(&missing).await
}

fn entered(entry: &LedgerEntry) -> LedgerWrite {
    LedgerWrite {
        version: entry.version.clone(),
        name: entry.name.clone(),
        checksum: entry.checksum_up.to_string(),
        direction: Direction::Up,
        layout: entry.layout.clone(),
        applied_by: entry.applied_by.clone(),
        provenance: Provenance::default(),
        facts: None,
    }
}

async fn perform(
    order: &Order<'_>,
    prospect: &Prospect,
    hand: &mut dyn Hand,
    cloned: Schema,
    observer: &dyn Observer,
    report: &mut Rehearsal,
) -> Result<(), RehearseError> {
    let listener = Listener::new(observer);
    let amendments = Plan {
        steps: Vec::new(),
        ..prospect.plan.clone()
    };
    engine::migrate(hand, &amendments, order.set.layout, WHO, &listener).await?;
    let mut stage = Stage {
        hand: &mut *hand,
        listener: &listener,
        layout: order.set.layout,
        below: prospect.plan.from.clone(),
    };
    let mut schema = cloned;
    for step in &prospect.plan.steps {
        let Tried { trial, schema: after } = stage.run(&step.migration, &schema).await?;
        report.problems.extend(problem(&trial));
        report.migrations.push(trial);
        stage.below = Some(step.migration.version.clone());
        match after {
            Some(after) => schema = after,
            // The clone is neither version: nothing that ran there would say anything.
            None => return Ok(()),
        }
    }
    report.fingerprint = Some(schema.fingerprint());
    let goal = prospect.plan.to.as_ref();
    let verified = engine::verify(hand, order.set, goal, order.verify).await?;
    report.problems.extend(verified.failures());
    Ok(())
}

fn problem(trial: &MigrationTrial) -> Option<String> {
    let version = &trial.version;
    let failed = |run: &Option<super::report::Run>| {
        let error = run.as_ref().and_then(|run| run.error.clone());
        error.unwrap_or_default()
    };
    match &trial.reversal {
        Reversal::Restores | Reversal::None => None,
        Reversal::NotReached => {
            let error = trial.up.error.clone().unwrap_or_default();
            Some(format!("version {version} up fails: {error}"))
        }
        Reversal::DownFailed => Some(format!("version {version} down fails: {}", failed(&trial.down))),
        Reversal::DownDoesNotRestore { difference } => Some(format!(
            "version {version} down does not restore the schema: {} objects differ",
            difference.differences.len()
        )),
        Reversal::UpAgainFailed => Some(format!(
            "version {version} up fails the second time: {}",
            failed(&trial.up_again)
        )),
        Reversal::UpAgainDiffers { difference } => Some(format!(
            "version {version} up gives another schema the second time: {} objects differ",
            difference.differences.len()
        )),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
