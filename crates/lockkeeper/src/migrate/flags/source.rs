//! Which migrations.

use std::path::PathBuf;

use clap::Args;
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::ledger::LedgerChoice;
use lockkeeper_migrate::source::{self, Layout, MigrationSet};

use crate::exit::Failure;
use crate::migrate::failure;

#[derive(Debug, Args)]
#[command(next_help_heading = "Migrations")]
pub(in crate::migrate) struct SourceArgs {
    /// Directory with the migrations; may be given more than once
    #[arg(
        long = "dir",
        value_name = "DIR",
        default_value = "./migrations",
        global = true
    )]
    pub(in crate::migrate) dirs: Vec<PathBuf>,
    /// Layout of the directory: pop, golang-migrate, or auto, which refuses when it cannot tell
    #[arg(long, value_name = "NAME", default_value = "auto", global = true)]
    layout: String,
    /// Where is recorded what is applied: own, or the state table of a tool, so that it can carry on: pop,
    /// golang-migrate, goose, dbmate, sqlx, refinery, flyway, diesel
    #[arg(long, value_name = "NAME", default_value = "own", global = true)]
    pub(in crate::migrate) ledger: LedgerChoice,
}

impl SourceArgs {
    /// The layout that was named; `None` is `auto`.
    pub(in crate::migrate) fn layout(&self) -> Result<Option<Layout>, Failure> {
        Layout::parse_choice(&self.layout).map_err(Failure::usage)
    }

    /// The same, where the layout is known unless the command line names another one.
    pub(in crate::migrate) fn load_as(
        &self,
        dialect: Dialect,
        layout: Layout,
    ) -> Result<MigrationSet, Failure> {
        let layout = self.layout()?.unwrap_or(layout);
        source::load(&self.dirs, Some(layout), dialect).map_err(failure::of_source)
    }

    /// Reads the migrations for a dialect. Needs no database.
    pub(in crate::migrate) fn load(&self, dialect: Dialect) -> Result<MigrationSet, Failure> {
        source::load(&self.dirs, self.layout()?, dialect).map_err(failure::of_source)
    }
}
