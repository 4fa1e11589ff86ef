//! Everything that is left to chance comes from one seed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lockkeeper_coordinator::world::Ids;
use uuid::{Builder, Uuid};

/// A source of chance. Its clones draw from the same one.
#[derive(Debug, Clone)]
pub struct Chance(Arc<Mutex<fastrand::Rng>>);

impl Chance {
    /// The one of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    /// Another source, so that what one part draws does not change what the others do.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::of(self.rng().u64(..))
    }

    /// True `percent` times out of a hundred.
    #[must_use]
    pub fn percent(&self, percent: u32) -> bool {
        self.rng().u32(..100) < percent
    }

    /// A number below `end`.
    #[must_use]
    pub fn below(&self, end: usize) -> usize {
        self.rng().usize(..end.max(1))
    }

    /// One of them.
    #[must_use]
    pub fn one_of<'a, T>(&self, choices: &'a [T]) -> Option<&'a T> {
        choices.get(self.below(choices.len()))
    }

    /// A number between two.
    #[must_use]
    pub fn between(&self, from: u64, to: u64) -> u64 {
        self.rng().u64(from..=to)
    }

    /// A time between two numbers of milliseconds; short ones are likelier.
    #[must_use]
    pub fn millis(&self, from: u64, to: u64) -> Duration {
        let mut rng = self.rng();
        let (a, b) = (rng.u64(from..=to), rng.u64(from..=to));
        Duration::from_millis(a.min(b))
    }

    fn rng(&self) -> MutexGuard<'_, fastrand::Rng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ids for Chance {
    fn unique(&self) -> Uuid {
        Builder::from_random_bytes(self.rng().u128(..).to_be_bytes()).into_uuid()
    }
}
