//! The demo's service: it takes orders. Its releases, its schema versions, its migrations.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::ValueEnum;

/// The service's name.
pub(super) const NAME: &str = "orders";

/// The version that the demo starts from.
pub(super) const FIRST: &str = "20260105090000";
/// The last version that release 1 can write to: the next one splits its table.
const LAST_OF_RELEASE_1: &str = "20260216090000";
/// The newest version, from which on release 2 can write.
pub(super) const NEWEST: &str = "20260406090000";

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../../migrations/demo/", $name)))),*]
    };
}

/// Carried in the program, so that the demo needs no file beside it.
const FILES: &[(&str, &str)] = files![
    "20260105090000_create_orders.down.sql",
    "20260105090000_create_orders.mysql.up.sql",
    "20260105090000_create_orders.postgres.up.sql",
    "20260105090000_create_orders.sqlite.up.sql",
    "20260202090000_add_currency.down.sql",
    "20260202090000_add_currency.up.sql",
    "20260216090000_backfill_currency.down.sql",
    "20260216090000_backfill_currency.up.sql",
    "20260302090000_split_payments.down.sql",
    "20260302090000_split_payments.mysql.up.sql",
    "20260302090000_split_payments.postgres.up.sql",
    "20260302090000_split_payments.sqlite.up.sql",
    "20260406090000_drop_order_amount.down.sql",
    "20260406090000_drop_order_amount.up.sql",
    "verify/20260406090000_every_order_has_a_payment.sql",
    "verify/20260406090000_no_payment_came_twice.sql",
    "verify/orders_can_be_counted.sql",
];

/// Writes the migrations below `dir`. Gives their folder.
pub(super) fn unpack(dir: &Path) -> io::Result<PathBuf> {
    let folder = dir.join("migrations");
    fs::create_dir_all(folder.join("verify"))?;
    for (name, text) in FILES {
        fs::write(folder.join(name), text)?;
    }
    Ok(folder)
}

/// A target's name.
pub(super) fn target(region: &str) -> String {
    format!("{NAME}/{region}")
}

/// A release of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Release {
    /// Keeps an order's amount in the order.
    #[value(name = "1")]
    One,
    /// Keeps it in a table of payments.
    #[value(name = "2")]
    Two,
}

impl Release {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::One => "1",
            Self::Two => "2",
        }
    }

    /// The schema versions that it can work with.
    pub(super) fn versions(self) -> RangeInclusive<&'static str> {
        match self {
            Self::One => FIRST..=LAST_OF_RELEASE_1,
            Self::Two => NEWEST..=NEWEST,
        }
    }

    /// The statements of the transaction that takes one order.
    pub(super) fn order(self, number: i64) -> Vec<String> {
        let (customer, amount) = (number % 1_000, 100 + number % 9_900);
        match self {
            Self::One => vec![format!(
                "INSERT INTO orders (number, customer, amount_cents) VALUES ({number}, 'customer {customer}', {amount})"
            )],
            Self::Two => vec![
                format!("INSERT INTO orders (number, customer) VALUES ({number}, 'customer {customer}')"),
                format!(
                    "INSERT INTO payments (order_number, amount_cents, currency) VALUES ({number}, {amount}, 'EUR')"
                ),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockkeeper_migrate::dialect::Dialect;
    use lockkeeper_migrate::source::{self, Layout};

    #[test]
    fn the_program_carries_every_file() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/demo");
        let names = |folder: &Path, prefix: &str| -> Vec<String> {
            let files = fs::read_dir(folder).unwrap().map(Result::unwrap);
            let files = files.filter(|f| f.file_type().unwrap().is_file());
            files
                .map(|f| format!("{prefix}{}", f.file_name().to_str().unwrap()))
                .collect()
        };
        let mut on_disk = names(&dir, "");
        on_disk.extend(names(&dir.join("verify"), "verify/"));
        on_disk.sort();
        assert_eq!(on_disk, FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }

    #[test]
    fn every_dialect_has_the_same_history_with_a_way_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = unpack(dir.path()).unwrap();
        let history = |dialect| {
            let set = source::load(std::slice::from_ref(&folder), Some(Layout::Pop), dialect).unwrap();
            assert!(set.migrations.iter().all(|m| m.down.is_some()));
            set.migrations
                .iter()
                .map(|m| (m.version.0.clone(), m.name.clone()))
                .collect::<Vec<_>>()
        };
        let postgres = history(Dialect::Postgres);
        assert_eq!(postgres.len(), 5);
        assert_eq!((postgres[0].0.as_str(), postgres[4].0.as_str()), (FIRST, NEWEST));
        assert_eq!(history(Dialect::MySql), postgres);
        assert_eq!(history(Dialect::Sqlite), postgres);
        assert_eq!(source::load_verify(&[folder], Dialect::MySql).unwrap().len(), 3);
    }
}
