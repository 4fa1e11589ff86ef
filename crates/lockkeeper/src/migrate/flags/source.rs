//! Which migrations.

use std::path::PathBuf;

use clap::Args;
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::ledger::LedgerChoice;
use lockkeeper_migrate::source::{
    self, Environment, Layout, MigrationSet, OutOfOrder, Programs, SourceOptions,
};

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
    /// Layout of the directory: pop, golang-migrate, goose, dbmate, sqlx, refinery, flyway, diesel, or auto, which
    /// refuses when it cannot tell
    #[arg(long, value_name = "NAME", default_value = "auto", global = true)]
    layout: String,
    /// Where is recorded what is applied: own, or the state table of a tool, so that it can carry on: pop,
    /// golang-migrate, goose, dbmate, sqlx, refinery, flyway, diesel
    #[arg(long, value_name = "NAME", default_value = "own", global = true)]
    pub(in crate::migrate) ledger: LedgerChoice,
    /// Value for a placeholder of Flyway's, ${NAME}; may be given more than once
    #[arg(long = "placeholder", value_name = "NAME=VALUE", value_parser = placeholder, global = true)]
    placeholders: Vec<(String, String)>,
    /// Leave out migrations in a programming language, and Flyway's callbacks, instead of refusing them
    #[arg(long, global = true)]
    skip_programs: bool,
    /// Apply pending migrations that lie below an applied one, instead of refusing them
    #[arg(long, global = true)]
    allow_out_of_order: bool,
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
        let mut options = self.options()?;
        options.layout.get_or_insert(layout);
        source::load_with(&self.dirs, &options, dialect).map_err(failure::of_source)
    }

    /// Reads the migrations for a dialect. Needs no database.
    pub(in crate::migrate) fn load(&self, dialect: Dialect) -> Result<MigrationSet, Failure> {
        source::load_with(&self.dirs, &self.options()?, dialect).map_err(failure::of_source)
    }

    fn options(&self) -> Result<SourceOptions, Failure> {
        Ok(SourceOptions {
            layout: self.layout()?,
            programs: if self.skip_programs {
                Programs::Skip
            } else {
                Programs::Refuse
            },
            placeholders: self.placeholders.iter().cloned().collect(),
            environment: Environment::Process,
            out_of_order: if self.allow_out_of_order {
                OutOfOrder::Allow
            } else {
                OutOfOrder::Refuse
            },
        })
    }
}

fn placeholder(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it has no =")?;
    Ok((name.to_owned(), value.to_owned()))
}
