//! Where the database is, and what is known of its server.

use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};

use super::failure::Failure;
use super::session::Session;
use crate::db::{DatabaseOptions, DbError, ServerIdentity};
use crate::dsn::{Address, Dsn, Locality};

/// An idle hand must outlive a server that closes idle sessions early: a fence may wait hours for an approval.
const IDLE_TIMEOUT_S: u64 = 7 * 24 * 3600;
/// Longest wait for the gate row in one try, in seconds (the server's smallest unit).
pub(super) const ROW_WAIT_S: u64 = 1;

/// How to reach one database. `Debug` leaves the password out.
#[derive(Clone)]
pub(super) struct Target {
    /// Or what is wrong with the DSN's parameters, to be said when a session is wanted.
    options: Result<MySqlConnectOptions, String>,
    /// Scheme, host, port and database.
    pub(super) place: String,
    /// The database's name.
    pub(super) database: String,
    /// Time-outs.
    pub(super) limits: DatabaseOptions,
    /// Whether the server's paths are paths of this machine.
    pub(super) locality: Locality,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Target {
    pub(super) fn new(dsn: &Dsn, limits: DatabaseOptions) -> Self {
        let database = dsn.database().unwrap_or_default().to_owned();
        Self {
            options: connect_options(dsn),
            place: dsn.place(),
            database,
            limits,
            locality: dsn.locality(),
        }
    }

    /// A new session in the database, with nothing set but its character set.
    pub(super) async fn connect(&self) -> Result<Session, DbError> {
        let unreachable = |reason| DbError::Unreachable {
            place: self.place.clone(),
            reason,
        };
        let options = self
            .options
            .as_ref()
            .map_err(|reason| unreachable(reason.clone()))?;
        let opened = Session::open(options, self.limits.connect_timeout).await;
        opened.map_err(|failure| unreachable(failure.to_string()))
    }

    /// Sets a hand's session up: bounded waits, and no early end for being idle.
    pub(super) async fn prepare(&self, session: &mut Session) -> Result<(), Failure> {
        let lock_wait = seconds(self.limits.lock_timeout);
        session
            .run(&format!(
                "SET SESSION wait_timeout = {IDLE_TIMEOUT_S}, lock_wait_timeout = {lock_wait}, \
                 innodb_lock_wait_timeout = {ROW_WAIT_S}"
            ))
            .await?;
        Ok(())
    }

    /// One of lockkeeper's own tables, qualified: a migration may have said `USE other`.
    pub(super) fn own(&self, table: &str) -> String {
        format!(
            "{}.{}",
            super::text::name(&self.database),
            super::text::name(table)
        )
    }

    /// What the names of this database's witness locks begin with: user locks are shared by the whole server.
    pub(super) fn witness_prefix(&self) -> String {
        format!(
            "lockkeeper_{}_",
            &hex::encode(Sha256::digest(self.database.as_bytes()))[..12]
        )
    }

    /// The name of the lock that the session called `started` holds for as long as it lives.
    pub(super) fn witness(&self, started: &str) -> String {
        format!("{}{started}", self.witness_prefix())
    }
}

/// Whole seconds, at least one: the smallest wait that both servers know.
pub(super) fn seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1000).clamp(1, u128::from(u32::MAX)) as u64
}

fn connect_options(dsn: &Dsn) -> Result<MySqlConnectOptions, String> {
    // The driver's own settings (PIPES_AS_CONCAT, UTC) would run a file under another mode than its author's client.
    let mut options = MySqlConnectOptions::new()
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None);
    if let Some(database) = dsn.database() {
        options = options.database(database);
    }
    if let Some(user) = dsn.user() {
        options = options.username(user);
    }
    if let Some(password) = dsn.password() {
        options = options.password(password);
    }
    options = match dsn.address() {
        Some(Address::Tcp(host, port)) => options.host(host).port(*port),
        Some(Address::Unix(path)) => options.socket(path),
        None => options,
    };
    with_tls(options, dsn)
}

/// `ssl-mode` as the servers' clients write it, or `tls` as Go's driver does.
fn with_tls(mut options: MySqlConnectOptions, dsn: &Dsn) -> Result<MySqlConnectOptions, String> {
    let mode = ["ssl-mode", "sslmode", "tls"]
        .iter()
        .find_map(|name| dsn.parameter(name));
    if let Some(mode) = mode {
        options = options.ssl_mode(ssl_mode(mode)?);
    }
    if let Some(ca) = ["ssl-ca", "sslca"].iter().find_map(|name| dsn.parameter(name)) {
        options = options.ssl_ca(ca);
    }
    if let Some(cert) = ["ssl-cert", "sslcert"]
        .iter()
        .find_map(|name| dsn.parameter(name))
    {
        options = options.ssl_client_cert(cert);
    }
    if let Some(key) = ["ssl-key", "sslkey"].iter().find_map(|name| dsn.parameter(name)) {
        options = options.ssl_client_key(key);
    }
    Ok(options)
}

fn ssl_mode(text: &str) -> Result<MySqlSslMode, String> {
    match text.to_ascii_lowercase().replace('-', "_").as_str() {
        "disabled" | "disable" | "false" => Ok(MySqlSslMode::Disabled),
        "preferred" | "prefer" => Ok(MySqlSslMode::Preferred),
        "required" | "require" | "skip_verify" => Ok(MySqlSslMode::Required),
        "verify_ca" => Ok(MySqlSslMode::VerifyCa),
        "verify_identity" | "verify_full" | "true" => Ok(MySqlSslMode::VerifyIdentity),
        _ => Err(format!(
            "ssl-mode {text:?} is unknown; expected disabled, preferred, required, verify-ca or verify-identity"
        )),
    }
}

/// What a session sees of its server.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// MariaDB, as opposed to MySQL.
    pub(super) mariadb: bool,
    /// As the server prints it.
    pub(super) version: String,
    /// Which server and database this is.
    pub(super) identity: ServerIdentity,
    /// This session's connection id.
    pub(super) connection: u64,
    /// When the server started, in Unix seconds; jitters by one.
    pub(super) server_start: i64,
}

impl Facts {
    pub(super) async fn read(session: &mut Session, database: &str) -> Result<Self, Failure> {
        let row = session
            .row(
                "SELECT VERSION(), CONNECTION_ID(), CONCAT_WS(':', @@hostname, @@port, @@datadir), @@server_id",
            )
            .await?
            .unwrap_or_default();
        let text = |i: usize| row.get(i).cloned().flatten().unwrap_or_default();
        let version = text(0);
        let mariadb = version.contains("MariaDB");
        let status = if mariadb {
            "information_schema"
        } else {
            "performance_schema"
        };
        // Clock and uptime in one statement, or a busy machine would come between them.
        let server_start = session
            .value(&format!(
                "SELECT CAST(UNIX_TIMESTAMP() - VARIABLE_VALUE AS SIGNED) FROM {status}.GLOBAL_STATUS \
                 WHERE VARIABLE_NAME = 'UPTIME'"
            ))
            .await?
            .unwrap_or_default();
        let identity = if mariadb {
            mariadb_identity(&text(3), &text(2), database)
        } else {
            let uuid = session.value("SELECT @@server_uuid").await?.unwrap_or_default();
            ServerIdentity(format!("mysql:{uuid}/{database}"))
        };
        Ok(Self {
            mariadb,
            version,
            identity,
            connection: number(&text(1)),
            server_start: server_start.parse().unwrap_or(0),
        })
    }

    /// Product and release for people.
    pub(super) fn product(&self) -> String {
        let release = self.version.split('-').next().unwrap_or_default();
        format!("{} {release}", if self.mariadb { "MariaDB" } else { "MySQL" })
    }
}

/// MariaDB has no server UUID. A replica differs from its primary in `server_id`, which replication demands; a
/// restored dump lies on another host, port or data directory, or has another database name.
fn mariadb_identity(server_id: &str, place: &str, database: &str) -> ServerIdentity {
    let hash = hex::encode(Sha256::digest(place.as_bytes()));
    ServerIdentity(format!("mariadb:{server_id}:{}/{database}", &hash[..16]))
}

/// A number that the server printed; 0 when it printed none.
pub(super) fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}
