//! `lockkeeper fence`: a target's fence, seen and released with nothing but its database.

mod inspect;
mod release;
mod sql;

use clap::{Args, Subcommand};
use lockkeeper_migrate::db::{BreakGlass, DbError, break_glass};
use lockkeeper_migrate::dsn::Dsn;

use crate::exit::{Exit, Failure};

/// Look at a target's fence, or release it, without coordinators and store
#[derive(Debug, Subcommand)]
pub(crate) enum FenceCommand {
    /// Show what stands: gate row, executor, barrier. Changes nothing
    Inspect(inspect::InspectCommand),
    /// Open a gate that no coordinator opens any more
    Release(release::ReleaseCommand),
    /// Print the same as SQL, for a person who has nothing but the database's own client
    Sql(sql::SqlCommand),
}

impl FenceCommand {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Inspect(command) => command.run().await,
            Self::Release(command) => command.run().await,
            Self::Sql(command) => command.run(),
        }
    }
}

#[derive(Debug, Args)]
struct DatabaseFlag {
    /// The target's database; a direct connection, not a pooler's
    #[arg(long, value_name = "DSN", env = "LOCKKEEPER_DSN", hide_env_values = true)]
    dsn: String,
}

impl DatabaseFlag {
    fn open(&self) -> Result<Box<dyn BreakGlass>, Failure> {
        let dsn = Dsn::parse(self.dsn.trim()).map_err(Failure::usage)?;
        Ok(break_glass(&dsn))
    }
}

fn failed(error: &DbError) -> Failure {
    let exit = match error {
        DbError::Superseded { .. }
        | DbError::IdentityChanged { .. }
        | DbError::ForeignTable { .. }
        | DbError::NewerFormat { .. }
        | DbError::OtherBook { .. } => Exit::WrongState,
        DbError::TimedOut { .. } => Exit::TimedOut,
        DbError::Unreachable { .. }
        | DbError::Permission { .. }
        | DbError::EpochBehind { .. }
        | DbError::ConnectionLost(_)
        | DbError::Server { .. }
        | DbError::Unsupported(_) => Exit::Error,
    };
    Failure::new(exit, error)
}
