//! `lockkeeper store`, and how every command names a store.
//!
//! | module | what it holds |
//! |---|---|
//! | `address` | `etcd://…` and `embedded:…`, and opening what they name |
//! | `migrate` | moving a fleet's state from one store to another |

mod address;
mod migrate;

use clap::{Args, Subcommand};

pub(crate) use address::StoreAddress;

use crate::exit::{Exit, Failure};

/// Look after the place where coordination state lives
#[derive(Debug, Args)]
pub(crate) struct StoreCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Move a fleet's state to another store: from the embedded one to etcd, say
    Migrate(migrate::MigrateArgs),
}

impl StoreCommand {
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        match self.verb {
            Verb::Migrate(args) => args.run().await,
        }
    }
}
