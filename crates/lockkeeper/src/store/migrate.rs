//! `store migrate`: moves a fleet's state from one store to another.

use std::sync::Arc;

use clap::Args;
use lockkeeper_coordinator::moving::{MoveError, Moved, MovingRecord, relocate};
use lockkeeper_coordinator::store::Store;
use lockkeeper_core::id::{FleetName, NameError};

use super::StoreAddress;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};

/// Move a fleet's state to another store
///
/// Targets, gates, rollouts and their history follow; sessions and the election do not. Stop every coordinator
/// first, and start them on the new store afterwards: none starts on the old one any more. The new store's leaders
/// get a larger generation, so that every target takes them. A move that was interrupted can be made again.
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    /// The store that is left: etcd://HOST:PORT[,HOST:PORT] or embedded:DIR
    #[arg(long, value_name = "STORE")]
    from: StoreAddress,
    /// The store that is filled; it must be empty
    #[arg(long, value_name = "STORE")]
    to: StoreAddress,
    /// The fleet
    #[arg(long, env = "LOCKKEEPER_FLEET", value_name = "NAME", default_value = "default", value_parser = fleet)]
    fleet: FleetName,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn fleet(text: &str) -> Result<FleetName, NameError> {
    FleetName::try_from(text.to_owned())
}

impl MigrateArgs {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        if let StoreAddress::Embedded(dir) = &self.from
            && !dir.is_dir()
        {
            return Err(Failure::usage(format!(
                "--from {}: there is no such directory",
                self.from
            )));
        }
        if self.from == self.to {
            return Err(Failure::usage("--from and --to name the same store"));
        }
        let names = MovingRecord {
            from: self.from.to_string(),
            to: self.to.to_string(),
        };
        let from = open("from", &self.from, &self.fleet).await?;
        let to = open("to", &self.to, &self.fleet).await?;
        let moved = relocate(from.as_ref(), to.as_ref(), names)
            .await
            .map_err(failed)?;
        output::print(self.format, &moved, |moved| sentence(moved, &self.to))?;
        Ok(Exit::Ok)
    }
}

fn sentence(moved: &Moved, to: &StoreAddress) -> String {
    format!(
        "moved {} records; leaders have generation {} now\nstart coordinators with --store {to}\n",
        moved.records, moved.generation
    )
}

async fn open(flag: &str, address: &StoreAddress, fleet: &FleetName) -> Result<Arc<dyn Store>, Failure> {
    let opened = address.open(fleet).await;
    opened.map_err(|e| Failure::new(Exit::Error, format!("--{flag} {address}: {e}")))
}

fn failed(error: MoveError) -> Failure {
    let exit = match &error {
        MoveError::Running(_) | MoveError::NotEmpty(..) | MoveError::Marked(_) | MoveError::Conflict(_) => {
            Exit::WrongState
        }
        MoveError::Record(_) | MoveError::Store(_) => Exit::Error,
    };
    Failure::new(exit, format!("move the store: {error}"))
}
