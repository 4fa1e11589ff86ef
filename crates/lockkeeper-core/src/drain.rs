//! When is a fence drained, as far as agents can tell?
//!
//! Two halves. A coordinator keeps a [`LeaseBook`]: what it granted, to whom, until when. The leader keeps a
//! [`DrainWatch`] per closing: which coordinators' sessions were listed in the closing's own transaction, and what
//! each has reported since; and [`Departures`], for the sessions that vanished before. (The database's barrier is the
//! other half of *drained*, for targets that have one.)

mod book;
mod departures;
mod watch;

pub use book::{Holder, LeaseBook, Straggler};
pub use departures::Departures;
pub use watch::{DrainReport, DrainWatch, Pending, must_report};
