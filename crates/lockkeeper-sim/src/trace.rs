//! What happened, line by line: for people, and as one number that two runs of a seed must agree on.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The story of one run. Its clones are the same story.
#[derive(Clone)]
pub struct Trace {
    begun: tokio::time::Instant,
    told: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    lines: Vec<String>,
    hasher: DefaultHasher,
    violation: Option<String>,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trace")
    }
}

impl Trace {
    /// An empty one that begins now, in virtual time.
    #[must_use]
    pub fn begin() -> Self {
        Self {
            begun: tokio::time::Instant::now(),
            told: Arc::default(),
        }
    }

    /// When it began.
    #[must_use]
    pub fn begun(&self) -> tokio::time::Instant {
        self.begun
    }

    /// Tells what `who` did.
    pub fn tell(&self, who: &str, what: &fmt::Arguments<'_>) {
        let line = format!("{:>9.3} {who:<8} {what}", self.begun.elapsed().as_secs_f64());
        let mut told = self.told();
        line.hash(&mut told.hasher);
        told.lines.push(line);
    }

    /// A promise does not hold. The first one counts.
    pub fn violated(&self, what: &fmt::Arguments<'_>) {
        self.tell("checker", &format_args!("VIOLATION: {what}"));
        self.told().violation.get_or_insert_with(|| what.to_string());
    }

    /// The promise that did not hold.
    #[must_use]
    pub fn violation(&self) -> Option<String> {
        self.told().violation.clone()
    }

    /// The number of the whole story.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.told().hasher.finish()
    }

    /// The story.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.told().lines.clone()
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells a line: `tell!(trace, "c1", "crashes after {n} s")`.
#[macro_export]
macro_rules! tell {
    ($trace:expr, $who:expr, $($what:tt)+) => {
        $trace.tell($who, &format_args!($($what)+))
    };
}
