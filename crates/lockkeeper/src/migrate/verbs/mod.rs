//! One file per verb: its own flags, and what it does.

pub(super) mod accept_edit;
pub(super) mod adopt;
pub(super) mod backup;
pub(super) mod baseline;
pub(super) mod create;
pub(super) mod diff;
pub(super) mod doctor;
pub(super) mod down;
pub(super) mod lint;
pub(super) mod new;
pub(super) mod plan;
pub(super) mod redo;
pub(super) mod rehearse;
pub(super) mod resolve;
pub(super) mod restore;
pub(super) mod status;
pub(super) mod up;
pub(super) mod up_to;
pub(super) mod validate;
pub(super) mod verify;
pub(super) mod wait;
