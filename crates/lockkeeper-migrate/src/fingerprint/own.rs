//! What stands in a database and belongs to no application's schema.

use crate::ledger::Tool;

/// Lockkeeper's tables, triggers and functions all begin like this.
const OWN_PREFIX: &str = "lockkeeper_";

/// Whether an object of this name (without its schema) is lockkeeper's, or another migrator's state table.
pub(crate) fn is_left_out(name: &str) -> bool {
    let own = name
        .get(..OWN_PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(OWN_PREFIX));
    own || Tool::tables().contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_migrators_keep_for_themselves_is_left_out() {
        for name in [
            "lockkeeper_gate",
            "Lockkeeper_G8_ab",
            "schema_migration",
            "goose_db_version",
        ] {
            assert!(is_left_out(name), "{name}");
        }
        for name in [
            "users",
            "lockkeeper",
            "my_lockkeeper_gate",
            "schema",
            "lockkeepér_x",
        ] {
            assert!(!is_left_out(name), "{name}");
        }
    }
}
