//! Backups: made, tried, recorded, asked for before something is lost, and brought back.
//!
//! | module | what it holds |
//! |---|---|
//! | `destructive` | which statements can lose data |
//! | `gate` | whether a plan may run without a fresh backup |
//! | `make` | a backup: dumped, read back, recorded |
//! | `dump` | one dialect's dump, into a file or a stream |
//! | `stream` | a dump on its way into a command: counted, hashed and read meanwhile |
//! | `check` | whether a dump can be read from beginning to end |
//! | `scratch` | a database that a backup is restored into to try it |
//! | `restore` | a backup brought back into a target |
//! | `toc`, `filter` | what of a dump must not come back |
//! | `file` | names, hashes and private files |
//! | `error` | what can go wrong, and what state it leaves |

mod check;
mod destructive;
mod dump;
mod error;
mod file;
mod filter;
mod gate;
mod make;
mod restore;
mod scratch;
mod stream;
mod toc;

pub use destructive::{Loss, losses};
pub use error::{BackupError, RemainingState, RestoreError, RestoreFailure};
pub use gate::{Need, Stale, fresh, need};
pub use make::{BackupReport, Destination, Order, Trial, back_up};
pub(crate) use restore::REASON as RESTORE_REASON;
pub use restore::{RestoreOrder, RestoreReport, restore};
