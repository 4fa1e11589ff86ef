//! A real PgBouncer in front of a PostgreSQL server, in transaction mode.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::ports::Port;
use crate::process::{Process, ProcessSpec};
use crate::scratch::{Scratch, ServerUser, create_owned};
use crate::tools;

const START_LIMIT: Duration = Duration::from_secs(20);

/// What it writes once it runs.
const READY: &str = "process up";

/// A running pooler; dropping it ends it.
#[derive(Debug)]
pub struct PgBouncer {
    pub process: Process,
    port: Port,
    _scratch: Scratch,
}

impl PgBouncer {
    /// Starts one before the server on `server_port`, for clients that log in as `user` without a password. Two
    /// sessions serve all of them.
    pub fn start(server_port: u16, user: &str) -> Result<PgBouncer> {
        Self::start_with(server_port, user, "extra_float_digits")
    }

    /// The same with other start-up settings of clients that it drops instead of refusing the client.
    pub fn start_with(server_port: u16, user: &str, ignored: &str) -> Result<PgBouncer> {
        let as_user = ServerUser::when_root("postgres")?;
        let scratch = Scratch::create("pgbouncer")?;
        let run = scratch.join("run");
        create_owned(&run, as_user.as_ref())?;
        let port = Port::reserve()?;
        let (config, users) = (scratch.join("pgbouncer.ini"), scratch.join("users"));
        std::fs::write(&users, format!("\"{user}\" \"\"\n")).context("write the pooler's users")?;
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={server_port}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = 2\n\
             ignore_startup_parameters = {ignored}\n",
            port.number(),
            users.display()
        );
        std::fs::write(&config, text).context("write the pooler's configuration")?;
        let spec = ProcessSpec::new(tools::find("pgbouncer")?, scratch.join("log"))
            .user(as_user)
            .arg(&config);
        let mut process = Process::spawn(spec)?;
        process.wait_ready(START_LIMIT, |process: &Process| {
            process.log().contains(READY).then_some(())
        })?;
        Ok(PgBouncer {
            process,
            port,
            _scratch: scratch,
        })
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }
}
