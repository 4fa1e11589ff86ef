//! Name, port, socket, file: whether there is anything at the place that a DSN names.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use super::examine::error_of;
use crate::db::Finding;
use crate::dialect::Dialect;
use crate::dsn::{Address, Dsn};

/// Each step with what it found. After one with an error nothing more is tried.
pub(super) async fn reach(dsn: &Dsn, limit: Duration) -> Vec<(&'static str, Vec<Finding>)> {
    match dsn.address() {
        Some(Address::Tcp(host, port)) => tcp(host, *port, limit).await,
        Some(Address::Unix(path)) => vec![("socket", socket(dsn, path, limit).await)],
        None => vec![("file", file(dsn.path().unwrap_or(Path::new(""))))],
    }
}

async fn tcp(host: &str, port: u16, limit: Duration) -> Vec<(&'static str, Vec<Finding>)> {
    let addresses: Vec<SocketAddr> = match timeout(limit, lookup_host((host, port))).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return vec![("dns", vec![no_name(host, &error.to_string())])],
        Err(_) => return vec![("dns", vec![no_name(host, "no name server answered in time")])],
    };
    if addresses.is_empty() {
        return vec![("dns", vec![no_name(host, "it has no address")])];
    }
    let mut last = None;
    for address in &addresses {
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return vec![("dns", Vec::new()), ("tcp", Vec::new())],
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = Some(io::Error::from(io::ErrorKind::TimedOut)),
        }
    }
    let error = last.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound));
    vec![("dns", Vec::new()), ("tcp", vec![no_port(host, port, &error)])]
}

fn no_name(host: &str, reason: &str) -> Finding {
    error_of(
        "dns",
        format!("the name {host} leads to no address: {reason}"),
        "check the host in the DSN, and from here `getent hosts HOST`; in Kubernetes a name in another namespace is \
         NAME.NAMESPACE",
    )
}

fn no_port(host: &str, port: u16, error: &io::Error) -> Finding {
    let (message, remedy) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (
            format!("nothing listens on {host} port {port}"),
            "check the port in the DSN, whether the server runs, and on which addresses it listens (PostgreSQL: \
             listen_addresses; MariaDB, MySQL: bind-address)",
        ),
        io::ErrorKind::TimedOut => (
            format!("{host} port {port} does not answer"),
            "look for a firewall, a security group or a network policy between here and there",
        ),
        _ => (
            format!("{host} port {port} cannot be reached: {error}"),
            "check the network and the route between here and there",
        ),
    };
    error_of("tcp", message, remedy)
}

async fn socket(dsn: &Dsn, path: &Path, limit: Duration) -> Vec<Finding> {
    let path = match dsn.dialect() {
        // The DSN names the directory.
        Dialect::Postgres => path.join(".s.PGSQL.5432"),
        Dialect::MySql | Dialect::Sqlite => path.to_path_buf(),
    };
    let error = match timeout(limit, UnixStream::connect(&path)).await {
        Ok(Ok(_)) => return Vec::new(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it does not answer".to_owned(),
    };
    vec![error_of(
        "socket",
        format!("the socket {} cannot be reached: {error}", path.display()),
        "check the path in the DSN, whether the server runs, and whether this user may use its socket",
    )]
}

fn file(path: &Path) -> Vec<Finding> {
    let (message, remedy) = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => return Vec::new(),
        Ok(_) => ("it is not a file".to_owned(), "name the database's file"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (
            "there is no such file".to_owned(),
            "check the path; `lockkeeper migrate sql up` makes the file",
        ),
        Err(error) => (
            error.to_string(),
            "let this user read the file and search its directories",
        ),
    };
    vec![error_of("file", format!("{}: {message}", path.display()), remedy)]
}
