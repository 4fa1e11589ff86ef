//! PostgreSQL: one transaction of one psql. What was there is dropped, the archive's script runs, gate and records
//! are put right, and only then, when pg_restore has ended well, the commit is sent.

use std::io::Write as _;

use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;

use super::restoring::Restoring;
use crate::backup::dump::login;
use crate::backup::error::{BackupError, RemainingState, RestoreError, RestoreFailure};
use crate::backup::file::failed;
use crate::backup::toc;
use crate::db::postgres::Postgres;
use crate::db::{Hand, RestoreFrame};
use crate::dump_tools::{Call, Input, Output, Program, Running, ToolError};

pub(super) async fn run(restoring: &Restoring<'_>) -> Result<(), RestoreError> {
    let hand = restoring
        .take()
        .await
        .map_err(|error| RestoreError::untouched(error.into()))?;
    let done = transaction(restoring, &*hand).await;
    match done {
        // The hand's registration went with the old gate row: there is nothing to release.
        Ok(()) => Ok(()),
        Err(cause) => match was_committed(restoring, &cause).await {
            Some(true) => Ok(()),
            Some(false) => {
                // It is registered as before; a failure here leaves what every runner that dies leaves.
                let _ = hand.release().await;
                Err(RestoreError::untouched(cause))
            }
            None => Err(RestoreError {
                cause,
                state: RemainingState::Unknown,
            }),
        },
    }
}

/// The answer to a commit can be lost; its record cannot. `None` when the database does not tell.
async fn was_committed(restoring: &Restoring<'_>, cause: &RestoreFailure) -> Option<bool> {
    let records = restoring.upkeep.records().await.ok()?;
    let there = records.iter().any(|record| record.id == restoring.record.id);
    // Killed in the middle of it, the server may come to its end only now.
    let killed = matches!(
        cause,
        RestoreFailure::Backup(BackupError::Tool(ToolError::TimedOut { .. }))
    );
    (there || !killed).then_some(there)
}

async fn transaction(restoring: &Restoring<'_>, hand: &dyn Hand) -> Result<(), RestoreFailure> {
    let order = restoring.order;
    let target = Postgres::new(order.dsn, order.options.clone());
    let frame = target
        .restore_frame(hand.executor(), &restoring.record, &restoring.reason())
        .await?;
    let list = contents(restoring, &frame).await?;
    let mut psql = Call::new(
        &restoring.tool(Program::Psql).await?,
        &login(order.dsn)?,
        order.limit,
    )?
    .args(["--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1"])
    .input(Input::Piped)
    .start()?;
    let script = Call::without_login(&restoring.tool(Program::PgRestore).await?, order.limit)
        .args(["--file=-", "--clean", "--if-exists"])
        .arg(format!("--use-list={}", list.path().display()))
        .arg(order.file)
        .output(Output::Piped)
        .start()?;
    let input = psql.input();
    let (fed, ended) = futures::join!(
        feed(restoring, &frame, script, input),
        psql.end(restoring.observer)
    );
    // What psql says comes first: when it stops, whoever writes to it only sees a broken pipe.
    ended?;
    Ok(fed?)
}

/// The archive's table of contents, without what must not come back.
async fn contents(restoring: &Restoring<'_>, frame: &RestoreFrame) -> Result<NamedTempFile, RestoreFailure> {
    let order = restoring.order;
    let tool = restoring.tool(Program::PgRestore).await?;
    let call = Call::without_login(&tool, order.limit)
        .arg("--list")
        .arg(order.file);
    let contents = call.read(restoring.observer).await?;
    let list = toc::list(&String::from_utf8_lossy(&contents), frame);
    let write = || -> std::io::Result<NamedTempFile> {
        let mut file = NamedTempFile::with_prefix("lockkeeper-restore-")?;
        file.write_all(list.as_bytes())?;
        Ok(file)
    };
    Ok(write().map_err(failed("write a list in", &std::env::temp_dir()))?)
}

/// An end of the input without a COMMIT rolls everything back.
async fn feed(
    restoring: &Restoring<'_>,
    frame: &RestoreFrame,
    mut script: Running,
    input: Option<ChildStdin>,
) -> Result<(), ToolError> {
    let broken = |error| ToolError::Io {
        program: "psql".to_owned(),
        error,
    };
    let (Some(mut input), Some(mut output)) = (input, script.output()) else {
        return Err(broken(std::io::Error::other("it has no pipe")));
    };
    input.write_all(frame.before.as_bytes()).await.map_err(broken)?;
    let copying = async { tokio::io::copy(&mut output, &mut input).await.map(|_| ()) };
    let (copied, ended) = futures::join!(copying, script.end(restoring.observer));
    copied.map_err(broken)?;
    ended?;
    input.write_all(frame.after.as_bytes()).await.map_err(broken)?;
    input.shutdown().await.map_err(broken)
}
