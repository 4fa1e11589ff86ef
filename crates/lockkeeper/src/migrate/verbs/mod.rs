//! One file per verb: its own flags, and what it does.

pub(super) mod diff;
pub(super) mod down;
pub(super) mod status;
pub(super) mod up;
