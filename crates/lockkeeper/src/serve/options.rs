//! Settings of a coordinator in three forms: what the flags and the environment say, what the file says, and both
//! merged and checked.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use lockkeeper_core::id::{CoordinatorName, FleetName, NameError, Region};
use lockkeeper_core::lease::LeaseSettings;
use serde::Deserialize;

use crate::exit::{Exit, Failure};
use crate::store::StoreAddress;

const DEFAULT_LISTEN: &str = "127.0.0.1:7400";
const DEFAULT_ADMIN_LISTEN: &str = "127.0.0.1:7401";
const DEFAULT_FLEET: &str = "default";
const DEFAULT_REGION: &str = "local";

/// Flags and environment.
#[derive(Debug, Args)]
pub(super) struct ServeFlags {
    /// Configuration file, YAML; its keys are the long flags with _ for -
    #[arg(short, long, env = "LOCKKEEPER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where coordination state lives: etcd://HOST:PORT[,HOST:PORT] or embedded:DIR (one coordinator, one machine)
    #[arg(long, env = "LOCKKEEPER_STORE", value_name = "STORE")]
    store: Option<String>,
    /// Where to serve gRPC [default: 127.0.0.1:7400]
    #[arg(long, env = "LOCKKEEPER_LISTEN", value_name = "HOST:PORT")]
    listen: Option<SocketAddr>,
    /// Where to serve /livez and /readyz [default: 127.0.0.1:7401]
    #[arg(long, env = "LOCKKEEPER_ADMIN_LISTEN", value_name = "HOST:PORT")]
    admin_listen: Option<SocketAddr>,
    /// Where agents and other coordinators reach this one [default: the listen address]
    #[arg(long, env = "LOCKKEEPER_ADVERTISE", value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Stable name of this coordinator [default: the host's name]
    #[arg(long, env = "LOCKKEEPER_NAME", value_name = "NAME")]
    name: Option<String>,
    /// Region that it runs in [default: local]
    #[arg(long, env = "LOCKKEEPER_REGION", value_name = "NAME")]
    region: Option<String>,
    /// Fleet that it serves: everything that shares one store prefix [default: default]
    #[arg(long, env = "LOCKKEEPER_FLEET", value_name = "NAME")]
    fleet: Option<String>,
    /// How long agents may write without hearing from their coordinator [default: 10s]
    #[arg(long, env = "LOCKKEEPER_WRITE_LEASE", value_name = "DURATION", value_parser = humantime::parse_duration)]
    write_lease: Option<Duration>,
    /// How long a coordinator's presence outlives its last renewal; longer than the write lease [default: 15s]
    #[arg(long, env = "LOCKKEEPER_PRESENCE_TTL", value_name = "DURATION", value_parser = humantime::parse_duration)]
    presence_ttl: Option<Duration>,
    /// How long leadership outlives its last renewal [default: 3s]
    #[arg(long, env = "LOCKKEEPER_LEADERSHIP_TTL", value_name = "DURATION", value_parser = humantime::parse_duration)]
    leadership_ttl: Option<Duration>,
    /// Serve in plaintext beyond the loopback interface
    #[arg(long, env = "LOCKKEEPER_INSECURE")]
    insecure: bool,
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    store: Option<String>,
    listen: Option<SocketAddr>,
    admin_listen: Option<SocketAddr>,
    advertise: Option<String>,
    name: Option<String>,
    region: Option<String>,
    fleet: Option<String>,
    #[serde(with = "humantime_serde::option")]
    write_lease: Option<Duration>,
    #[serde(with = "humantime_serde::option")]
    presence_ttl: Option<Duration>,
    #[serde(with = "humantime_serde::option")]
    leadership_ttl: Option<Duration>,
    insecure: bool,
}

/// Merged and checked.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) store: StoreAddress,
    pub(super) listen: SocketAddr,
    pub(super) admin_listen: SocketAddr,
    pub(super) advertise: Option<String>,
    pub(super) name: CoordinatorName,
    pub(super) region: Region,
    pub(super) fleet: FleetName,
    pub(super) leases: LeaseSettings,
}

impl ServeFlags {
    /// Merges flags, environment and file, and checks the whole.
    pub(super) fn settle(self) -> Result<Settings, Failure> {
        let file = match &self.config {
            Some(path) => read(path)?,
            None => File::default(),
        };
        let Some(store) = self.store.or(file.store) else {
            return Err(Failure::usage("--store is missing")
                .hint("--store etcd://HOST:PORT[,HOST:PORT], or --store embedded:DIR for one machine"));
        };
        let store = store
            .parse()
            .map_err(|e| Failure::usage(format!("--store: {e}")))?;
        let default = LeaseSettings::default();
        let leases = LeaseSettings {
            write: self.write_lease.or(file.write_lease).unwrap_or(default.write),
            presence: self
                .presence_ttl
                .or(file.presence_ttl)
                .unwrap_or(default.presence),
            leadership: self
                .leadership_ttl
                .or(file.leadership_ttl)
                .unwrap_or(default.leadership),
        };
        check_leases(leases)?;
        let settings = Settings {
            store,
            listen: self.listen.or(file.listen).unwrap_or(address(DEFAULT_LISTEN)),
            admin_listen: self
                .admin_listen
                .or(file.admin_listen)
                .unwrap_or(address(DEFAULT_ADMIN_LISTEN)),
            advertise: self.advertise.or(file.advertise),
            name: name("name", self.name.or(file.name).unwrap_or_else(host_name))?,
            region: name(
                "region",
                self.region
                    .or(file.region)
                    .unwrap_or_else(|| DEFAULT_REGION.to_owned()),
            )?,
            fleet: name(
                "fleet",
                self.fleet
                    .or(file.fleet)
                    .unwrap_or_else(|| DEFAULT_FLEET.to_owned()),
            )?,
            leases,
        };
        let insecure = self.insecure || file.insecure;
        if !(settings.listen.ip().is_loopback() || insecure) {
            return Err(Failure::usage(format!(
                "--listen {} is beyond loopback, and in plaintext",
                settings.listen
            ))
            .hint("--insecure says that the network is trusted"));
        }
        Ok(settings)
    }
}

fn read(path: &Path) -> Result<File, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::usage(format!("read configuration {}: {e}", path.display())))?;
    // Without a snippet: the lines around an error may hold a password.
    serde_saphyr::from_str(&text).map_err(|e| {
        Failure::usage(format!(
            "configuration {}: {}",
            path.display(),
            e.without_snippet()
        ))
    })
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|e| unreachable!("a constant: {e}"))
}

fn name<T: TryFrom<String, Error = NameError>>(flag: &str, text: String) -> Result<T, Failure> {
    T::try_from(text).map_err(|e| Failure::usage(format!("--{flag}: {e}")))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Write leases must end before the session that grants them does, margin included.
fn check_leases(leases: LeaseSettings) -> Result<(), Failure> {
    let least = Duration::from_secs(1);
    let shortest = leases.write.min(leases.presence).min(leases.leadership);
    if shortest < least {
        let text = "--write-lease, --presence-ttl and --leadership-ttl are at least 1s: stores count in whole seconds";
        return Err(Failure::new(Exit::Usage, text));
    }
    if lockkeeper_core::lease::with_margin(leases.write) > leases.presence {
        let text = "--presence-ttl must be longer than --write-lease by more than 10 %";
        return Err(Failure::new(Exit::Usage, text));
    }
    Ok(())
}
