//! `doctor`: what is wrong between here and the database, and in it.

use clap::Args;

use crate::doctor::{self, Fix};
use crate::exit::{Exit, Failure};
use crate::migrate::flags::{Common, DsnArg};
use crate::migrate::job::Missing;

#[derive(Debug, Args)]
pub(in crate::migrate) struct DoctorVerbArgs {
    #[command(flatten)]
    dsn: DsnArg,
    /// Mend what is safe to mend, asking first: left-over barrier triggers, the identity of a restored copy
    #[arg(long)]
    fix: bool,
}

impl DoctorVerbArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        let dsn = common.database.dsn_text(&self.dsn)?;
        let fix = Fix::of(self.fix, common.answer.yes);
        let options = common.options(Missing::Refuse);
        doctor::examine(&dsn, options, fix, common.answer.format).await
    }
}
