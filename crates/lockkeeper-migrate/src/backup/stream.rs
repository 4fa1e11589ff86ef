//! A dump on its way into a command: counted, hashed, and read meanwhile as a check.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::ChildStdin;

use super::check::{TAIL_BYTES, is_completed};
use super::dump::release;
use super::error::BackupError;
use super::file::Content;
use crate::db::Observer;
use crate::dialect::Dialect;
use crate::dump_tools::{Call, Input, Program, Running, ToolError, find};

/// Bytes that are passed on at a time.
const CHUNK: usize = 1 << 16;

/// Reads `source` to its end, into `command`, and on PostgreSQL also into a `pg_restore` that unpacks every row.
/// `source_ends` waits for whoever writes it: the command's input is closed only when that has ended well, so that a
/// command never takes a dump that was cut off for a whole one.
pub(super) async fn into_command(
    source: impl AsyncRead + Unpin,
    source_ends: impl Future<Output = Result<(), ToolError>>,
    command: Call,
    dialect: Dialect,
    server: &str,
    limit: Duration,
    observer: &dyn Observer,
) -> Result<Content, BackupError> {
    let mut command = command.input(Input::Piped).start()?;
    let mut reader = match dialect {
        Dialect::Postgres => Some(reader(server, limit).await?),
        Dialect::MySql | Dialect::Sqlite => None,
    };
    let sinks = (command.input(), reader.as_mut().and_then(Running::input));
    let passing = async {
        let passed = pass_on(source, sinks).await;
        source_ends.await?;
        let (content, tail, sinks) = passed.map_err(|error| ToolError::Io {
            program: "command".to_owned(),
            error,
        })?;
        if dialect == Dialect::MySql {
            is_completed(&tail)?;
        }
        drop(sinks);
        Ok::<Content, BackupError>(content)
    };
    let ending = async { command.end(observer).await.map_err(BackupError::from) };
    let checking = async {
        match reader {
            Some(reader) => reader
                .end(observer)
                .await
                .map_err(|error| BackupError::Unreadable(error.to_string())),
            None => Ok(()),
        }
    };
    let (content, (), ()) = futures::try_join!(passing, ending, checking)?;
    Ok(content)
}

async fn reader(server: &str, limit: Duration) -> Result<Running, BackupError> {
    let tool = find(Program::PgRestore, release(server)).await?;
    let call = Call::without_login(&tool, limit)
        .arg("--file=/dev/null")
        .input(Input::Piped);
    Ok(call.start()?)
}

type Sinks = (Option<ChildStdin>, Option<ChildStdin>);

/// Gives the sinks back, still open.
async fn pass_on(
    mut source: impl AsyncRead + Unpin,
    mut sinks: Sinks,
) -> std::io::Result<(Content, Vec<u8>, Sinks)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut tail = Vec::new();
    let mut size = 0;
    loop {
        let read = source.read(&mut buffer).await?;
        if read == 0 {
            let content = Content {
                size,
                sha256: hex::encode(hasher.finalize()),
            };
            return Ok((content, tail, sinks));
        }
        let chunk = &buffer[..read];
        hasher.update(chunk);
        size += read as u64;
        for sink in [&mut sinks.0, &mut sinks.1].into_iter().flatten() {
            sink.write_all(chunk).await?;
        }
        tail.extend_from_slice(chunk);
        let old = tail.len().saturating_sub(TAIL_BYTES);
        tail.drain(..old);
    }
}
