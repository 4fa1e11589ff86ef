//! The format of lockkeeper's own tables in a target.

/// The format that this release writes. It reads every lower one, and brings it up to this one when it takes the
/// target.
///
/// | format | what it brought |
/// |---|---|
/// | 1 | gate, ledger and journal |
/// | 2 | `lockkeeper_meta` and `lockkeeper_edits`; in the ledger `how`, and `place` on every dialect |
pub const FORMAT: i64 = 2;

/// The release that writes it, for people.
pub const MADE_BY: &str = env!("CARGO_PKG_VERSION");
