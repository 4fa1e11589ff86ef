//! What the server says beside its answers.
//!
//! The driver gives notices to `tracing` and to nobody else. While a migration runs, its future is polled under a
//! subscriber that picks them out and passes everything on to the one that was there before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::instrument::WithSubscriber;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

use crate::db::Notice;

const TARGET: &str = "sqlx::postgres::notice";

/// At most this many are kept of one migration: a loop with RAISE NOTICE would otherwise fill the memory.
const KEPT_MAX: usize = 1000;

/// What the server said while a future ran.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Vec<Notice>>>);

impl Heard {
    /// Runs `future` and keeps what the server says meanwhile.
    pub(super) async fn during<F: Future>(&self, future: F) -> F::Output {
        let tap = Tap {
            outer: tracing::dispatcher::get_default(Clone::clone),
            heard: self.clone(),
        };
        future.with_subscriber(tap).await
    }

    /// How many warnings there are so far.
    pub(super) fn warnings(&self) -> usize {
        self.lock()
            .iter()
            .filter(|notice| notice.severity == "WARNING")
            .count()
    }

    /// Everything so far, which is then forgotten.
    pub(super) fn take(&self) -> Vec<Notice> {
        std::mem::take(&mut *self.lock())
    }

    fn add(&self, notice: Notice) {
        let mut kept = self.lock();
        if kept.len() < KEPT_MAX {
            kept.push(notice);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Notice>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Tap {
    outer: Dispatch,
    heard: Heard,
}

impl Subscriber for Tap {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.target() == TARGET {
            Interest::sometimes()
        } else {
            self.outer.register_callsite(metadata)
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TARGET || self.outer.enabled(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // NOTICE comes as INFO.
        Some(LevelFilter::current().max(LevelFilter::INFO))
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.outer.new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.outer.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.outer.record_follows_from(span, follows);
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        if metadata.target() != TARGET {
            if self.outer.enabled(metadata) {
                self.outer.event(event);
            }
            return;
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        self.heard.add(Notice {
            severity: severity(metadata.level()).to_owned(),
            message: message.0,
        });
    }

    fn enter(&self, span: &Id) {
        self.outer.enter(span);
    }

    fn exit(&self, span: &Id) {
        self.outer.exit(span);
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.outer.clone_span(id)
    }

    fn try_close(&self, id: Id) -> bool {
        self.outer.try_close(id)
    }
}

fn severity(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "NOTICE",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "INFO",
    }
}

struct Message(String);

impl Visit for Message {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn notices_are_kept_and_everything_else_is_passed_on() {
        let heard = Heard::default();
        heard
            .during(async {
                tracing::info!(target: "sqlx::postgres::notice", message = "table exists, skipping");
                tracing::warn!(target: "sqlx::postgres::notice", message = "careful");
                tracing::info!("not for us");
            })
            .await;
        assert_eq!(heard.warnings(), 1);
        let notices = heard.take();
        let texts: Vec<_> = notices
            .iter()
            .map(|n| (n.severity.as_str(), n.message.as_str()))
            .collect();
        assert_eq!(
            texts,
            [("NOTICE", "table exists, skipping"), ("WARNING", "careful")]
        );
    }
}
