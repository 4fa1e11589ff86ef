//! A watch that ends with an error instead of falling silent.

use std::time::Duration;

use etcd_client::{Event, EventType, WatchOptions, WatchResponse, WatchStream};
use futures::stream;
use tokio::time::{Instant, timeout, timeout_at};

use super::failure::Failure;
use super::keys::{Keys, revision};
use super::members::Member;
use crate::store::{Change, Revision, StoreError, Watch};

/// Largest answer that is read: a watch that starts in the past gets up to 1000 revisions at once.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Starts a watch at one member and waits until the member says that it has begun.
pub(super) async fn start(
    member: Member,
    keys: &Keys,
    prefix: &str,
    from: Revision,
    request_timeout: Duration,
) -> Result<Watch, Failure> {
    let options = WatchOptions::new()
        .with_prefix()
        .with_start_revision(from.cast_signed())
        .with_progress_notify();
    let mut client = member
        .client
        .watch_client()
        .max_decoding_message_size(ANSWER_BYTES_MAX);
    let stream = client
        .watch(keys.full(prefix), Some(options))
        .await
        .map_err(|error| Failure::of(&member.endpoint, &error))?;
    let mut reader = Reader {
        stream,
        keys: keys.clone(),
        endpoint: member.endpoint.clone(),
        from,
        check_interval: request_timeout,
        last_heard: Instant::now(),
        ended: false,
    };
    match reader.response(request_timeout).await {
        Ok(Some(first)) if first.created() && !first.canceled() => {}
        Ok(Some(first)) => return Err(declined(reader.cancelled(&first))),
        Ok(None) => {
            return Err(Failure::Lost(format!(
                "{}: no answer to a watch",
                member.endpoint
            )));
        }
        Err(error) => return Err(declined(error)),
    }
    Ok(Box::pin(stream::unfold(reader, |mut reader| async move {
        let item = reader.item().await?;
        Some((item, reader))
    })))
}

/// A start that is too old is too old everywhere; anything else another member may do better.
fn declined(error: StoreError) -> Failure {
    match error {
        StoreError::Compacted(_) => Failure::Refused(error),
        other => Failure::NotDone(other.to_string()),
    }
}

struct Reader {
    stream: WatchStream,
    keys: Keys,
    endpoint: String,
    from: Revision,
    check_interval: Duration,
    last_heard: Instant,
    ended: bool,
}

impl Reader {
    async fn item(&mut self) -> Option<Result<Vec<Change>, StoreError>> {
        if self.ended {
            return None;
        }
        let item = self.changes().await;
        self.ended = item.is_err();
        Some(item)
    }

    /// Waits for changes. A member that says nothing is asked for a sign of life every `check_interval`, through
    /// the same stream; after three of them without any answer the watch is given up. A member that lost its
    /// leader ends the stream by itself, because the connection requires one.
    async fn changes(&mut self) -> Result<Vec<Change>, StoreError> {
        loop {
            match self.response(self.check_interval).await? {
                Some(answer) if answer.canceled() => return Err(self.cancelled(&answer)),
                Some(answer) if answer.events().is_empty() => {}
                Some(answer) => return self.read(answer.events()),
                None if self.last_heard.elapsed() > 3 * self.check_interval => {
                    return Err(StoreError::Unavailable(format!(
                        "{}: the watch is silent",
                        self.endpoint
                    )));
                }
                None => self.ask().await?,
            }
        }
    }

    /// The next answer; `None` when there was none within the time.
    async fn response(&mut self, within: Duration) -> Result<Option<WatchResponse>, StoreError> {
        match timeout(within, self.stream.message()).await {
            Err(_) => Ok(None),
            Ok(Ok(Some(answer))) => {
                self.last_heard = Instant::now();
                Ok(Some(answer))
            }
            Ok(Ok(None)) => Err(StoreError::Unavailable(format!(
                "{}: the watch was closed",
                self.endpoint
            ))),
            Ok(Err(error)) => Err(StoreError::Unavailable(format!("{}: {error}", self.endpoint))),
        }
    }

    async fn ask(&mut self) -> Result<(), StoreError> {
        let asked = timeout_at(
            Instant::now() + self.check_interval,
            self.stream.request_progress(),
        )
        .await;
        match asked {
            Ok(Ok(())) => Ok(()),
            _ => Err(StoreError::Unavailable(format!(
                "{}: the watch does not take requests",
                self.endpoint
            ))),
        }
    }

    fn read(&self, events: &[Event]) -> Result<Vec<Change>, StoreError> {
        let change = |event: &Event| -> Result<Change, Failure> {
            let row = event
                .kv()
                .ok_or_else(|| Failure::Lost("an event without a key".to_owned()))?;
            Ok(match event.event_type() {
                EventType::Put => Change::Put(self.keys.entry(row)?),
                EventType::Delete => Change::Delete {
                    key: self.keys.short(row.key())?,
                    revision: revision(row.mod_revision())?,
                },
            })
        };
        let changes: Result<Vec<Change>, Failure> = events.iter().map(change).collect();
        changes.map_err(|failure| StoreError::Unavailable(format!("{}: {failure:?}", self.endpoint)))
    }

    fn cancelled(&self, answer: &WatchResponse) -> StoreError {
        if answer.compact_revision() > 0 {
            return StoreError::Compacted(self.from);
        }
        StoreError::Unavailable(format!(
            "{}: the watch was cancelled: {}",
            self.endpoint,
            answer.cancel_reason()
        ))
    }
}
