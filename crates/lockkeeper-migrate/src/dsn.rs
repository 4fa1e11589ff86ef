//! Data source names: where a database is and how to log in. Parsed once, and never printed with its password.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::dialect::Dialect;

/// A text that is no usable DSN. Never repeats the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DsnError {
    /// There is no `scheme://`.
    #[error("DSN has no scheme; expected postgres://, postgresql://, mysql:// or sqlite://PATH")]
    NoScheme,
    /// A scheme that no dialect answers to.
    #[error(
        "DSN scheme {scheme:?} is unknown; expected postgres://, postgresql://, mysql:// or sqlite://PATH"
    )]
    UnknownScheme {
        /// What stood before `://`.
        scheme: String,
    },
    /// A scheme that is known and has no implementation.
    #[error("DSN scheme {scheme:?} is not supported yet; use postgres://, mysql:// or sqlite://PATH")]
    NotSupportedYet {
        /// What stood before `://`.
        scheme: String,
    },
    /// A part is missing.
    #[error("DSN has no {part}; expected {form}")]
    Missing {
        /// Which part.
        part: &'static str,
        /// What the DSN should look like.
        form: &'static str,
    },
    /// A part cannot be read.
    #[error("{part} of the DSN {problem}")]
    Malformed {
        /// Which part.
        part: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Host name or address, and port.
    Tcp(String, u16),
    /// A Unix socket: its directory for PostgreSQL, the socket itself for MariaDB and MySQL.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Where a database lies, seen from this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locality {
    /// On this machine, as far as the address tells.
    Here,
    /// It may be anywhere.
    Elsewhere,
}

#[derive(Clone, PartialEq, Eq)]
enum Location {
    Server {
        user: Option<String>,
        password: Option<String>,
        address: Address,
        database: String,
    },
    File(PathBuf),
}

/// Where a database is and how to log in. `Debug` and `Display` leave user and password out.
#[derive(Clone, PartialEq, Eq)]
pub struct Dsn {
    dialect: Dialect,
    location: Location,
    parameters: Vec<(String, String)>,
}

/// The DSN in `text` with another login; only a server's DSN has one.
#[must_use]
pub fn with_login(text: &str, user: &str, password: &str) -> String {
    let text = text.trim();
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let server = authority.rsplit_once('@').map_or(authority, |(_, server)| server);
    format!("{scheme}://{user}:{password}@{server}{tail}")
}

const POSTGRES_FORM: &str = "postgres://USER:PASSWORD@HOST:PORT/DATABASE";
const MYSQL_FORM: &str = "mysql://USER:PASSWORD@HOST:PORT/DATABASE";
const SQLITE_FORM: &str = "sqlite://PATH";

const POSTGRES_PORT: u16 = 5432;
const MYSQL_PORT: u16 = 3306;

impl Dsn {
    /// Reads a DSN. Parameters are kept as they are; those that nobody asks for, such as the sizes of a
    /// connection pool, have no effect.
    ///
    /// # Errors
    /// When the scheme is unknown or a part is missing or malformed.
    pub fn parse(text: &str) -> Result<Self, DsnError> {
        let (scheme, rest) = text.trim().split_once("://").ok_or(DsnError::NoScheme)?;
        match scheme.to_ascii_lowercase().as_str() {
            "postgres" | "postgresql" => server(Dialect::Postgres, rest, POSTGRES_PORT, POSTGRES_FORM),
            "mysql" | "mariadb" => server(Dialect::MySql, rest, MYSQL_PORT, MYSQL_FORM),
            "sqlite" | "sqlite3" => file(rest),
            "cockroach" | "cockroachdb" | "crdb" => Err(DsnError::NotSupportedYet {
                scheme: scheme.to_owned(),
            }),
            _ => Err(DsnError::UnknownScheme {
                scheme: scheme_for_message(scheme),
            }),
        }
    }

    /// The dialect that the scheme stands for.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Scheme, host, port and database, without user, password and parameters: for messages.
    #[must_use]
    pub fn place(&self) -> String {
        let scheme = match self.dialect {
            Dialect::Postgres => "postgres",
            Dialect::MySql => "mysql",
            Dialect::Sqlite => "sqlite",
        };
        match &self.location {
            Location::Server {
                address, database, ..
            } => format!("{scheme}://{address}/{database}"),
            Location::File(path) => format!("{scheme}://{}", path.display()),
        }
    }

    /// The login name, if the DSN has one.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        match &self.location {
            Location::Server { user, .. } => user.as_deref(),
            Location::File(_) => None,
        }
    }

    /// The password, to be cut out of what others print. Never to be shown.
    #[must_use]
    pub fn secret(&self) -> Option<&str> {
        self.password()
    }

    /// The password: for the driver only.
    pub(crate) fn password(&self) -> Option<&str> {
        match &self.location {
            Location::Server { password, .. } => password.as_deref(),
            Location::File(_) => None,
        }
    }

    /// Host and port, or the socket; `None` for a file.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        match &self.location {
            Location::Server { address, .. } => Some(address),
            Location::File(_) => None,
        }
    }

    /// The database's name; `None` for a file.
    #[must_use]
    pub fn database(&self) -> Option<&str> {
        match &self.location {
            Location::Server { database, .. } => Some(database),
            Location::File(_) => None,
        }
    }

    /// The database file; `None` for a server.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.location {
            Location::Server { .. } => None,
            Location::File(path) => Some(path),
        }
    }

    /// Whether paths that the server names can be looked at from here.
    #[must_use]
    pub fn locality(&self) -> Locality {
        match self.address() {
            Some(Address::Tcp(host, _)) => {
                let loopback = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
                if loopback || host == "localhost" {
                    Locality::Here
                } else {
                    Locality::Elsewhere
                }
            }
            Some(Address::Unix(_)) | None => Locality::Here,
        }
    }

    /// The last value of a parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The same server and login, another database: to make one that is missing. A file is left as it is.
    #[must_use]
    pub fn with_database(&self, name: &str) -> Self {
        let mut other = self.clone();
        if let Location::Server { database, .. } = &mut other.location {
            name.clone_into(database);
        }
        other
    }
}

impl FromStr for Dsn {
    type Err = DsnError;
    fn from_str(text: &str) -> Result<Self, DsnError> {
        Self::parse(text)
    }
}

impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place())
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dsn({})", self.place())
    }
}

/// A "scheme" that is no word could be the beginning of a password with `://` in it.
fn scheme_for_message(scheme: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    if scheme.len() <= 20 && scheme.chars().all(plain) {
        scheme.to_owned()
    } else {
        "…".to_owned()
    }
}

fn server(dialect: Dialect, rest: &str, port: u16, form: &'static str) -> Result<Dsn, DsnError> {
    let (login, rest) = split_login(rest);
    let (place, query) = split_query(rest);
    let parameters = parameters(query)?;
    let (address, database) = match go_form(place)? {
        Some(found) => found,
        None => url_form(place, port)?,
    };
    let (user, password) = match login {
        Some(login) => credentials(login)?,
        None => (None, None),
    };
    let parameter = |name: &str| {
        parameters
            .iter()
            .rev()
            .find(|(k, _)| k == name)
            .map(|(_, v)| v.clone())
    };
    // libpq's way to name a socket directory: postgres:///db?host=/var/run/postgresql
    let address = match parameter("host") {
        Some(host) if host.starts_with('/') => Address::Unix(PathBuf::from(host)),
        Some(host) => Address::Tcp(host, port),
        None => address,
    };
    let database = parameter("dbname").unwrap_or(database);
    if database.is_empty() {
        return Err(DsnError::Missing {
            part: "database",
            form,
        });
    }
    if matches!(&address, Address::Tcp(host, _) if host.is_empty()) {
        return Err(DsnError::Missing { part: "host", form });
    }
    Ok(Dsn {
        dialect,
        location: Location::Server {
            user,
            password,
            address,
            database,
        },
        parameters,
    })
}

/// The login ends at the last `@` before the parameters: an unescaped `@`, `/` or `:` in a password is common.
fn split_login(rest: &str) -> (Option<&str>, &str) {
    let end = rest.rfind('@').filter(|at| {
        // An `@` in the parameters is not the login's end, unless the `?` belongs to the password.
        rest.find('?').is_none_or(|question| *at < question) || !rest[..*at].contains("/")
    });
    match end {
        Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
        None => (None, rest),
    }
}

fn split_query(rest: &str) -> (&str, &str) {
    rest.split_once('?').unwrap_or((rest, ""))
}

fn credentials(login: &str) -> Result<(Option<String>, Option<String>), DsnError> {
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(decode(password, "password")?)),
        None => (login, None),
    };
    let user = decode(user, "user")?;
    Ok(((!user.is_empty()).then_some(user), password))
}

/// `tcp(host:3306)/db` and `unix(/path)/db`, as Go's MySQL driver writes them.
fn go_form(place: &str) -> Result<Option<(Address, String)>, DsnError> {
    let Some((network, rest)) = place.split_once('(') else {
        return Ok(None);
    };
    let malformed = |problem: &str| DsnError::Malformed {
        part: "address",
        problem: problem.to_owned(),
    };
    let (address, database) = rest
        .split_once(')')
        .ok_or_else(|| malformed("has no closing parenthesis"))?;
    let database = decode(database.trim_start_matches('/'), "database")?;
    match network {
        "tcp" => Ok(Some((tcp(address, MYSQL_PORT)?, database))),
        "unix" => Ok(Some((Address::Unix(PathBuf::from(address)), database))),
        _ => Err(malformed("must be tcp(HOST:PORT) or unix(PATH)")),
    }
}

fn url_form(place: &str, port: u16) -> Result<(Address, String), DsnError> {
    let (authority, database) = place.split_once('/').unwrap_or((place, ""));
    let database = decode(database, "database")?;
    let host = decode(authority, "host")?;
    if host.starts_with('/') {
        return Ok((Address::Unix(PathBuf::from(host)), database));
    }
    Ok((tcp(&host, port)?, database))
}

fn tcp(text: &str, default_port: u16) -> Result<Address, DsnError> {
    let malformed = |problem: &str| DsnError::Malformed {
        part: "port",
        problem: problem.to_owned(),
    };
    let (host, port) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None | Some("") => default_port,
        Some(port) => port
            .parse()
            .map_err(|_| malformed("is not a number from 1 to 65535"))?,
    };
    if port == 0 {
        return Err(malformed("is not a number from 1 to 65535"));
    }
    Ok(Address::Tcp(host.to_owned(), port))
}

fn file(rest: &str) -> Result<Dsn, DsnError> {
    let (path, query) = split_query(rest);
    let path = decode(path.strip_prefix("file:").unwrap_or(path), "path")?;
    if path.is_empty() {
        return Err(DsnError::Missing {
            part: "path",
            form: SQLITE_FORM,
        });
    }
    let parameters = parameters(query)?;
    let in_memory = path == ":memory:" || parameters.iter().any(|(k, v)| k == "mode" && v == "memory");
    if in_memory {
        let problem = "names a database in memory, which no other process can see; give a file".to_owned();
        return Err(DsnError::Malformed {
            part: "path",
            problem,
        });
    }
    Ok(Dsn {
        dialect: Dialect::Sqlite,
        location: Location::File(PathBuf::from(path)),
        parameters,
    })
}

fn parameters(query: &str) -> Result<Vec<(String, String)>, DsnError> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(key, "a parameter")?, decode(value, "a parameter")?))
        })
        .collect()
}

/// Percent-decodes. A `%` that starts no escape stays what it is: unescaped passwords are common.
fn decode(text: &str, part: &'static str) -> Result<String, DsnError> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let escape = (bytes[i] == b'%').then(|| bytes.get(i + 1..i + 3)).flatten();
        let byte = escape
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = byte {
            out.push(byte);
            i += 3;
        } else {
            out.push(bytes[i]);
            i += 1;
        }
    }
    String::from_utf8(out).map_err(|_| DsnError::Malformed {
        part,
        problem: "is not UTF-8 after decoding".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Dsn {
        Dsn::parse(text).unwrap()
    }

    #[test]
    fn a_kratos_dsn_with_pool_sizes_parses() {
        let dsn = parse(
            "postgres://kratos:s3cret@db.example:5433/kratos?sslmode=disable&max_conns=20&max_idle_conns=4",
        );
        assert_eq!(dsn.dialect(), Dialect::Postgres);
        assert_eq!(dsn.user(), Some("kratos"));
        assert_eq!(dsn.password(), Some("s3cret"));
        assert_eq!(dsn.address(), Some(&Address::Tcp("db.example".into(), 5433)));
        assert_eq!(dsn.database(), Some("kratos"));
        assert_eq!(dsn.parameter("sslmode"), Some("disable"));
        assert_eq!(
            parse("postgresql://h/d").address(),
            Some(&Address::Tcp("h".into(), 5432))
        );
    }

    #[test]
    fn both_forms_of_mysql_parse() {
        let go = parse("mysql://user:pw@tcp(host:3307)/db?parseTime=true&multiStatements=true");
        let url = parse("mysql://user:pw@host:3307/db");
        assert_eq!(go.address(), url.address());
        assert_eq!((go.database(), go.password()), (Some("db"), Some("pw")));
        assert_eq!(go.parameter("parseTime"), Some("true"));
        assert_eq!(
            parse("mysql://u@unix(/run/mysqld.sock)/db").address(),
            Some(&Address::Unix("/run/mysqld.sock".into()))
        );
    }

    #[test]
    fn sockets_and_ipv6_parse() {
        assert_eq!(
            parse("postgres://u@/db?host=/var/run/postgresql").address(),
            Some(&Address::Unix("/var/run/postgresql".into()))
        );
        assert_eq!(
            parse("postgres://u@%2Frun%2Fpg/db").address(),
            Some(&Address::Unix("/run/pg".into()))
        );
        let dsn = parse("postgres://u@[::1]:6000/db");
        assert_eq!(dsn.address(), Some(&Address::Tcp("::1".into(), 6000)));
        assert_eq!(dsn.place(), "postgres://[::1]:6000/db");
    }

    #[test]
    fn sqlite_paths_keep_their_slashes() {
        assert_eq!(
            parse("sqlite:///var/db.sqlite?_fk=true").path(),
            Some(Path::new("/var/db.sqlite"))
        );
        assert_eq!(parse("sqlite://db.sqlite").path(), Some(Path::new("db.sqlite")));
        assert!(Dsn::parse("sqlite://").is_err());
        assert!(
            Dsn::parse("sqlite://:memory:")
                .unwrap_err()
                .to_string()
                .contains("no other process")
        );
        assert!(Dsn::parse("sqlite://x?mode=memory").is_err());
    }

    #[test]
    fn unescaped_passwords_are_understood() {
        let dsn = parse("postgres://u:p@ss:w/ord%zz@h/d");
        assert_eq!(dsn.password(), Some("p@ss:w/ord%zz"));
        assert_eq!(dsn.place(), "postgres://h:5432/d");
        assert_eq!(parse("mysql://u:p%40ss@h/d").password(), Some("p@ss"));
        assert_eq!(parse("postgres://h/d?options=a@b").user(), None);
    }

    #[test]
    fn nothing_that_is_printed_holds_the_password() {
        let dsn = parse("postgres://user:hunter2@h/d?password=hunter2");
        assert!(!format!("{dsn} {dsn:?}").contains("hunter2"));
        for bad in [
            "postgres://u:hunter2@h:99999/d",
            "hunter2://x",
            "u:hunter2 with words://x",
            "mysql://u:hunter2@h",
        ] {
            let message = Dsn::parse(bad).unwrap_err().to_string();
            assert!(bad == "hunter2://x" || !message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn errors_say_what_is_expected() {
        assert_eq!(
            Dsn::parse("oracle://h/d").unwrap_err().to_string(),
            "DSN scheme \"oracle\" is unknown; expected postgres://, postgresql://, mysql:// or sqlite://PATH"
        );
        assert!(
            Dsn::parse("cockroach://h/d")
                .unwrap_err()
                .to_string()
                .contains("not supported yet")
        );
        assert_eq!(Dsn::parse("h/d").unwrap_err(), DsnError::NoScheme);
        assert_eq!(
            Dsn::parse("postgres://h").unwrap_err().to_string(),
            "DSN has no database; expected postgres://USER:PASSWORD@HOST:PORT/DATABASE"
        );
    }
}
