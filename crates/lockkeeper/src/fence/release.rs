//! Opening a gate that nobody opens any more.

use clap::Args;
use lockkeeper_migrate::db::{Living, Release, ReleaseError, Released};

use super::{DatabaseFlag, failed, inspect};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::prompt::{self, Answer};

#[derive(Debug, Args)]
pub(crate) struct ReleaseCommand {
    #[command(flatten)]
    database: DatabaseFlag,
    /// Why; it is kept in the gate row, and the next leader reports it
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
    /// End the registered executor when it lives. It may be in the middle of a migration
    #[arg(long)]
    force: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("a reason is needed".to_owned()),
        text => Ok(text.to_owned()),
    }
}

impl ReleaseCommand {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let database = self.database.open()?;
        let state = database.inspect_fence().await.map_err(|e| failed(&e))?;
        if !self.yes {
            eprint!("{}", inspect::text(&state));
            eprintln!(
                "No verification precedes this opening. The next leader holds the rollout and asks a person."
            );
            if prompt::ask("Open the gate?")? == Answer::No {
                return Ok(Exit::Ok);
            }
        }
        let order = Release {
            reason: self.reason,
            who: who(),
            living: if self.force { Living::End } else { Living::Refuse },
        };
        let released = database.release_fence(&order).await.map_err(refused)?;
        output::print(self.format, &released, text)?;
        Ok(Exit::Ok)
    }
}

fn refused(error: ReleaseError) -> Failure {
    match error {
        ReleaseError::NoGate => Failure::new(Exit::WrongState, error),
        ReleaseError::ExecutorLives { .. } => Failure::new(Exit::WrongState, error)
            .hint("stop the coordinators, or let the leader go on; --force ends the session"),
        ReleaseError::Db(error) => failed(&error),
    }
}

/// `user@host`, as well as the environment tells.
fn who() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{user}@{host}")
}

fn text(released: &Released) -> String {
    let mut text = match released.was_closed {
        true => format!(
            "open at {}; the next leader will hold its rollout\n",
            released.row.opened
        ),
        false => format!("the gate is open at {} already\n", released.row.opened),
    };
    if let Some(ended) = &released.ended {
        text.push_str(&format!("ended {ended}\n"));
    }
    if released.left > 0 {
        text.push_str(&format!(
            "{} objects of the barrier are in use; they refuse nobody, run this again later\n",
            released.left
        ));
    }
    text
}
