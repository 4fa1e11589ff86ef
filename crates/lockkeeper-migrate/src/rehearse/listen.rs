//! Gathers what is measured while a script runs, and passes everything else on.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::db::{Event, Measurement, Observer};
use crate::engine::Progress;

pub(super) struct Listener<'a> {
    observer: &'a dyn Observer,
    /// By the statement's number: one that was tried again counts with its last try.
    measured: Mutex<BTreeMap<usize, Measurement>>,
}

impl<'a> Listener<'a> {
    pub(super) fn new(observer: &'a dyn Observer) -> Self {
        Self {
            observer,
            measured: Mutex::default(),
        }
    }

    /// What was measured since the last call, in order.
    pub(super) fn take(&self) -> Vec<Measurement> {
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *measured).into_values().collect()
    }
}

impl Observer for Listener<'_> {
    fn event(&self, event: Event) {
        match event {
            Event::Measured(measurement) => {
                let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
                measured.insert(measurement.index, measurement);
            }
            other => self.observer.event(other),
        }
    }
}

impl Progress for Listener<'_> {}
