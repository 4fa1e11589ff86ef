//! What the flags lead to: DSN, migrations, database.

use lockkeeper_migrate::db::{self, Database, DatabaseOptions};
use lockkeeper_migrate::dsn::Dsn;
use lockkeeper_migrate::ledger::LedgerChoice;
use lockkeeper_migrate::source::MigrationSet;

use super::flags::{Common, DsnArg};
use crate::exit::Failure;

/// The migrations and the database that the command line names.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) dsn: Dsn,
    pub(super) set: MigrationSet,
    pub(super) database: Box<dyn Database>,
}

/// Whether a missing SQLite file is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Make,
    Refuse,
}

/// A verb that needs only one of the two uses [`Common::open`], or [`SourceArgs::load`](super::flags::SourceArgs).
impl Common {
    /// Reads the DSN and the migrations. Opens no connection yet.
    pub(super) fn job(&self, dsn: &DsnArg, missing: Missing) -> Result<Job, Failure> {
        let dsn = self.database.dsn(dsn)?;
        let set = self.source.load(dsn.dialect())?;
        let database = self.open(&dsn, missing);
        Ok(Job { dsn, set, database })
    }

    /// The database alone, for a verb that needs no directory. Opens no connection yet.
    pub(super) fn open(&self, dsn: &Dsn, missing: Missing) -> Box<dyn Database> {
        self.open_with(dsn, missing, self.source.ledger)
    }

    /// The database with another ledger than the one that the flags name.
    pub(super) fn open_with(&self, dsn: &Dsn, missing: Missing, ledger: LedgerChoice) -> Box<dyn Database> {
        let options = self.options(missing);
        db::open(dsn, DatabaseOptions { ledger, ..options })
    }

    /// How the flags say that a database is reached and treated.
    pub(super) fn options(&self, missing: Missing) -> DatabaseOptions {
        DatabaseOptions {
            ledger: self.source.ledger,
            ..self.limits.options(missing)
        }
    }
}
