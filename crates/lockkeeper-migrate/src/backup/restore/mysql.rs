//! MariaDB and MySQL: every statement commits. The gate is closed first and opened last.

use lockkeeper_core::epoch::{GateEpoch, LeaderEpoch};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::ChildStdin;
use uuid::Uuid;

use super::restoring::{REASON, Restoring};
use crate::backup::dump::login;
use crate::backup::error::{RemainingState, RestoreError, RestoreFailure};
use crate::backup::file::failed;
use crate::backup::filter;
use crate::db::mysql::MySqlDatabase;
use crate::db::{Claim, Hand, TakeError};
use crate::dump_tools::{Call, Input, Program, ToolError};

pub(super) async fn run(restoring: &Restoring<'_>) -> Result<(), RestoreError> {
    let untouched = RestoreError::untouched;
    // Started before anything is touched: what is not on this machine stops here.
    let client = client(restoring).await.map_err(untouched)?;
    let (mut hand, epoch) = take(restoring).await.map_err(untouched)?;
    hand.close(epoch, &restoring.reason())
        .await
        .map_err(|error| untouched(error.into()))?;
    let brought = bring_back(restoring, &mut *hand, client, epoch).await;
    brought.map_err(|cause| RestoreError {
        cause,
        state: RemainingState::Partial,
    })?;
    // The target is restored and open; a registration that stays is what every runner that dies leaves.
    let _ = hand.release().await;
    Ok(())
}

async fn client(restoring: &Restoring<'_>) -> Result<Call, RestoreFailure> {
    let order = restoring.order;
    let tool = restoring.tool(Program::MariaDb).await?;
    let call = Call::new(&tool, &login(order.dsn)?, order.limit)?
        .arg("--batch")
        .arg(format!("--database={}", order.dsn.database().unwrap_or_default()))
        .input(Input::Piped);
    Ok(call)
}

/// The hand, and the epoch to close under: the next one, or that of a restore that was cut off.
async fn take(restoring: &Restoring<'_>) -> Result<(Box<dyn Hand>, GateEpoch), RestoreFailure> {
    match restoring.take().await {
        Ok(hand) => {
            let epoch = GateEpoch(hand.gate_row().gate_epoch.0 + 1);
            Ok((hand, epoch))
        }
        Err(TakeError::GateClosed { rollout, epoch }) if rollout.starts_with(REASON) => {
            Ok((go_on(restoring).await?, epoch))
        }
        Err(error) => Err(error.into()),
    }
}

/// A gate that a restore has closed lets no standalone claim in. A leader's claim that is not larger than the fleet's
/// own, if there is one, lets the fleet's next leader take the target from this restore as from any other hand.
async fn go_on(restoring: &Restoring<'_>) -> Result<Box<dyn Hand>, RestoreFailure> {
    let row = restoring.database.inspect().await?.gate_row;
    let seen = row.as_ref().map_or(LeaderEpoch::NONE, |row| row.leader_epoch);
    let claim = match row.and_then(|row| row.leader_id) {
        Some(id) => Claim::Leader { epoch: seen, id },
        None => Claim::Leader {
            epoch: LeaderEpoch {
                revision: seen.revision + 1,
                ..seen
            },
            id: Uuid::new_v4(),
        },
    };
    let order = restoring.order;
    Ok(restoring
        .database
        .take(&claim, order.patience, restoring.observer)
        .await?)
}

async fn bring_back(
    restoring: &Restoring<'_>,
    hand: &mut dyn Hand,
    client: Call,
    epoch: GateEpoch,
) -> Result<(), RestoreFailure> {
    let order = restoring.order;
    let target = MySqlDatabase::new(order.dsn, order.options.clone());
    let frame = target.restore_frame().await?;
    let mut client = client.start()?;
    let input = client.input();
    let name = client.name().to_owned();
    let (fed, ended) = futures::join!(
        feed(restoring, &frame.before, &name, input),
        client.end(restoring.observer)
    );
    ended?;
    fed?;
    target.settle_restore().await?;
    let version = hand.ledger().await?.pop().map(|entry| entry.version);
    restoring.upkeep.record(&restoring.record).await?;
    hand.open(epoch, version.as_ref()).await?;
    Ok(())
}

async fn feed(
    restoring: &Restoring<'_>,
    before: &str,
    program: &str,
    input: Option<ChildStdin>,
) -> Result<(), RestoreFailure> {
    let broken = |error| ToolError::Io {
        program: program.to_owned(),
        error,
    };
    let Some(mut input) = input else {
        return Err(broken(std::io::Error::other("it has no pipe")).into());
    };
    let path = restoring.order.file;
    let file = tokio::fs::File::open(path).await.map_err(failed("read", path))?;
    input.write_all(before.as_bytes()).await.map_err(broken)?;
    filter::pass_on(BufReader::new(file), &mut input)
        .await
        .map_err(broken)?;
    Ok(input.shutdown().await.map_err(broken)?)
}
