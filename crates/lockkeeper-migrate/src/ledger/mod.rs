//! What a target records of the migrations it has had, as plain data: lockkeeper's own ledger, or the state table
//! of the tool that the migrations come from.
//!
//! | module | what it holds |
//! |---|---|
//! | [`entry`] | one version that is recorded as applied, whoever recorded it |
//! | [`choice`] | which ledger a target has: our own, or a tool's |
//! | [`origin`] | the tools' tables: what they look like, what their rows mean, which rows an applied migration leaves |
//! | [`edit`] | files that were changed after they were applied, and accepted |
//! | [`resolve`] | what the entries say of a directory's migrations |
//! | [`format`] | the format of lockkeeper's own tables |
//!
//! Nothing here talks to a database: the dialects read rows and run the statements that [`origin::sql`] makes.

pub mod choice;
pub mod edit;
pub mod entry;
pub mod format;
pub mod origin;
pub mod resolve;

pub use choice::{ChoiceError, LedgerChoice};
pub use edit::{AcceptedEdit, EditRecord};
pub use entry::{EntryState, Extent, Fingerprint, How, LedgerEntry};
pub use origin::{Tool, ToolSum};
