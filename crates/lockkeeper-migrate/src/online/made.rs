//! The tables that a migration itself makes.

use std::collections::BTreeSet;

/// Names of tables that were not there before: nobody reads or writes them yet.
#[derive(Debug, Default)]
pub(super) struct Made {
    tables: BTreeSet<String>,
}

impl Made {
    pub(super) fn add(&mut self, table: String) {
        self.tables.insert(table);
    }

    pub(super) fn has(&self, table: &str) -> bool {
        self.tables.contains(table)
    }
}
