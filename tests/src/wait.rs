//! Waiting for something to become true, never for ever.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

/// How often a condition is looked at: far below what a person notices, far above what loads a machine.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Calls `poll` until it gives a value; fails with `what` when `limit` has passed, or with `poll`'s error.
pub fn until<T>(what: &str, limit: Duration, mut poll: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = poll()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {:.1} s for {what}", limit.as_secs_f64());
        }
        sleep(POLL_INTERVAL);
    }
}

/// The same for code that runs inside a runtime, whose other tasks go on meanwhile.
pub async fn until_async<T, F>(what: &str, limit: Duration, mut poll: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = poll().await? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {:.1} s for {what}", limit.as_secs_f64());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
