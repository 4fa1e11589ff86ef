//! What was asked for, checked.

use clap::Args;
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::dsn::Dsn;

use crate::exit::Failure;
use crate::output::Format;

/// The part of `--dsn` that the region's name replaces.
const PLACEHOLDER: &str = "{region}";

/// The demo's regions, in the order of the waves.
pub(super) const REGIONS: [&str; 2] = ["eu-west-1", "us-east-1"];

/// Rows before, so many that migrating them can be watched: a server, on the same machine as everything that writes
/// to it and with its barrier in every row's way, takes longer for each.
const ROWS_SQLITE: u32 = 300_000;
const ROWS_SERVER: u32 = 20_000;

/// Flags of `lockkeeper demo`.
#[derive(Debug, Args)]
pub(super) struct DemoFlags {
    /// Replicas of release 1 that write, over all regions
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(2..=400))]
    agents: u32,
    /// Leave the leader alone
    #[arg(long)]
    no_kill: bool,
    /// Rows that each database holds before, so that its migrations take a moment [default: 300000 on SQLite, 20000 on
    /// servers]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rows: Option<u32>,
    /// etcd://HOST:PORT[,HOST:PORT]: coordinators and agents are then processes [default: a store in memory]
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// Databases, with {region} for the region's name, for example postgres://user@host/demo_{region}; those that are
    /// missing are made [default: SQLite files]
    #[arg(long, value_name = "DSN")]
    dsn: Option<String>,
    /// How the summary is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) format: Format,
}

/// What the demo does.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Replicas of release 1.
    pub(super) writers: u32,
    /// Whether the leader is killed.
    pub(super) kill: bool,
    /// Rows before.
    pub(super) rows: u32,
    /// etcd's `HOST:PORT[,HOST:PORT]`; `None`: a store in memory.
    pub(super) etcd: Option<Vec<String>>,
    /// One DSN per region; `None`: SQLite files in the demo's own folder.
    pub(super) dsns: Option<Vec<String>>,
}

impl Plan {
    /// Whether replicas are processes of their own: on real parts, a fleet in one process would prove little.
    pub(super) fn replicas_are_processes(&self) -> bool {
        self.etcd.is_some() || self.dsns.is_some()
    }
}

impl DemoFlags {
    pub(super) fn settle(self) -> Result<Plan, Failure> {
        let dsns = self.dsn.as_deref().map(dsns).transpose()?;
        let on_a_server = dsns
            .as_ref()
            .is_some_and(|dsns| !dsns.iter().all(|dsn| dsn.starts_with("sqlite")));
        let rows = if on_a_server { ROWS_SERVER } else { ROWS_SQLITE };
        Ok(Plan {
            writers: self.agents,
            kill: !self.no_kill,
            rows: self.rows.unwrap_or(rows),
            etcd: self.store.as_deref().map(etcd).transpose()?,
            dsns,
        })
    }
}

fn etcd(store: &str) -> Result<Vec<String>, Failure> {
    let Some(endpoints) = store.strip_prefix("etcd://") else {
        return Err(Failure::usage("--store: the demo takes etcd://HOST:PORT[,HOST:PORT]")
            .hint("without --store it keeps its state in memory; a store in a folder serves one coordinator, not three"));
    };
    let endpoints: Vec<String> = endpoints.split(',').map(str::to_owned).collect();
    match endpoints.iter().find(|e| {
        e.rsplit_once(':')
            .is_none_or(|(_, port)| port.parse::<u16>().is_err())
    }) {
        Some(bad) => Err(Failure::usage(format!("--store: {bad:?} is no HOST:PORT"))),
        None => Ok(endpoints),
    }
}

fn dsns(template: &str) -> Result<Vec<String>, Failure> {
    if !template.contains(PLACEHOLDER) {
        return Err(Failure::usage(format!("--dsn: there is no {PLACEHOLDER} in it"))
            .hint("each region needs a database of its own: postgres://user@host/demo_{region}"));
    }
    let dsns: Vec<String> = REGIONS
        .iter()
        .map(|region| template.replace(PLACEHOLDER, region))
        .collect();
    let mut places = Vec::new();
    for text in &dsns {
        let dsn = Dsn::parse(text).map_err(|e| Failure::usage(format!("--dsn: {e}")))?;
        if dsn.dialect() == Dialect::Sqlite && dsn.path().is_some_and(std::path::Path::exists) {
            return Err(Failure::usage(format!("--dsn: {dsn} exists already"))
                .hint("the demo makes its SQLite files itself; name others, or leave --dsn out"));
        }
        places.push(dsn.place());
    }
    if places[0] == places[1] {
        return Err(Failure::usage("--dsn: both regions would have the same database")
            .hint("put {region} into the database's name"));
    }
    Ok(dsns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_region_gets_a_database_of_its_own() {
        let dsns = dsns("postgres://u:p@h:1/demo_{region}?sslmode=disable").unwrap();
        assert_eq!(dsns[0], "postgres://u:p@h:1/demo_eu-west-1?sslmode=disable");
        assert_eq!(dsns[1], "postgres://u:p@h:1/demo_us-east-1?sslmode=disable");
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        let problem = |template: &str| dsns(template).unwrap_err().message();
        assert_eq!(problem("postgres://h/demo"), "--dsn: there is no {region} in it");
        assert_eq!(
            problem("postgres://h/demo?application_name={region}"),
            "--dsn: both regions would have the same database"
        );
        assert!(problem("oracle://h/{region}").contains("scheme \"oracle\" is unknown"));
        assert!(
            etcd("embedded:/tmp/x")
                .unwrap_err()
                .message()
                .contains("etcd://HOST:PORT")
        );
        assert!(
            etcd("etcd://a:2379,b")
                .unwrap_err()
                .message()
                .contains("\"b\" is no HOST:PORT")
        );
        assert_eq!(etcd("etcd://a:1,b:2").unwrap(), ["a:1", "b:2"]);
    }
}
