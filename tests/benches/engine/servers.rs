//! The servers, and fresh databases on them.

use std::cell::Cell;
use std::path::PathBuf;

use anyhow::Result;
use lockkeeper_tests::mariadb::MariaDb;
use lockkeeper_tests::postgres::Postgres;
use tempfile::TempDir;

use crate::sets::Dialect;

/// Where databases are made.
#[derive(Debug)]
pub(crate) struct Server {
    kind: Kind,
    made: Cell<usize>,
}

#[derive(Debug)]
enum Kind {
    Postgres(Postgres),
    MariaDb(MariaDb),
    Sqlite(TempDir),
}

/// One database, in the words of each client.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) name: String,
    /// What lockkeeper, psql and most tools take.
    pub(crate) url: String,
    /// The file, on SQLite.
    pub(crate) file: PathBuf,
    /// Where the server listens; 0 on SQLite.
    pub(crate) port: u16,
}

impl Server {
    pub(crate) fn start(dialect: Dialect) -> Result<Self> {
        let kind = match dialect {
            Dialect::Postgres => Kind::Postgres(Postgres::start()?),
            Dialect::MariaDb => Kind::MariaDb(MariaDb::start()?),
            Dialect::Sqlite => Kind::Sqlite(tempfile::tempdir()?),
        };
        Ok(Self {
            kind,
            made: Cell::new(0),
        })
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match self.kind {
            Kind::Postgres(_) => Dialect::Postgres,
            Kind::MariaDb(_) => Dialect::MariaDb,
            Kind::Sqlite(_) => Dialect::Sqlite,
        }
    }

    /// An empty database that nobody has used yet.
    pub(crate) fn fresh(&self) -> Result<Database> {
        self.made.set(self.made.get() + 1);
        let name = format!("bench_{}", self.made.get());
        let mut database = Database {
            name: name.clone(),
            url: String::new(),
            file: PathBuf::new(),
            port: 0,
        };
        match &self.kind {
            Kind::Postgres(server) => {
                database.url = server.create_database(&name)?;
                database.port = server.port();
            }
            Kind::MariaDb(server) => {
                database.url = server.create_database(&name)?;
                database.port = server.port();
            }
            Kind::Sqlite(folder) => {
                database.file = folder.path().join(format!("{name}.db"));
                // Some tools want the file to be there.
                std::fs::write(&database.file, "")?;
                database.url = format!("sqlite://{}", database.file.display());
            }
        }
        Ok(database)
    }

    /// Makes room again.
    pub(crate) fn drop(&self, database: &Database) -> Result<()> {
        match &self.kind {
            Kind::Postgres(server) => {
                server.sql(
                    "postgres",
                    &format!("DROP DATABASE {} WITH (FORCE)", database.name),
                )?;
            }
            Kind::MariaDb(server) => {
                server.sql("", &format!("DROP DATABASE {}", database.name))?;
            }
            Kind::Sqlite(_) => std::fs::remove_file(&database.file)?,
        }
        Ok(())
    }
}
