//! The same for a person with nothing but `psql`, `mariadb` or `sqlite3`.

use clap::{Args, ValueEnum};

use crate::exit::{Exit, Failure};
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct SqlCommand {
    /// Of which database
    #[arg(long, value_enum)]
    dialect: SqlDialect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SqlDialect {
    /// PostgreSQL: psql
    Postgres,
    /// MariaDB and MySQL: mariadb, mysql
    Mysql,
    /// SQLite: sqlite3
    Sqlite,
}

impl SqlCommand {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let text = match self.dialect {
            SqlDialect::Postgres => include_str!("sql/postgres.sql"),
            SqlDialect::Mysql => include_str!("sql/mysql.sql"),
            SqlDialect::Sqlite => include_str!("sql/sqlite.sql"),
        };
        output::write(text)?;
        Ok(Exit::Ok)
    }
}
