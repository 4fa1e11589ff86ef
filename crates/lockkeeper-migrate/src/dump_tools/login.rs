//! How a program logs in. Passwords go through the environment or a file that nobody else can read: what stands
//! among a program's arguments is there for every user of the machine to see.

use std::ffi::OsString;
use std::fmt;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use tempfile::NamedTempFile;

use super::error::ToolError;
use super::find::Program;
use crate::dialect::Dialect;
use crate::dsn::{Address, Dsn};

/// What libpq would otherwise take from the environment of whoever started lockkeeper.
const FOREIGN_VARIABLES: [&str; 6] = [
    "PGSERVICE",
    "PGHOSTADDR",
    "PGOPTIONS",
    "PGDATABASE",
    "PGREQUIRESSL",
    "MYSQL_PWD",
];

/// Seconds that libpq waits for one server address.
const CONNECT_TIMEOUT_S: &str = "15";

/// Environment and leading arguments for programs that work on one database.
#[derive(Clone)]
pub struct Login {
    dialect: Dialect,
    place: String,
    environment: Vec<(&'static str, OsString)>,
    /// Removed when the last copy of this login is dropped.
    file: Option<Arc<NamedTempFile>>,
}

impl Login {
    /// For the server and database that `dsn` names.
    ///
    /// # Errors
    /// When the options file cannot be written.
    pub fn new(dsn: &Dsn) -> std::io::Result<Self> {
        let (environment, file) = match dsn.dialect() {
            Dialect::Postgres => (postgres_environment(dsn), None),
            Dialect::MySql => (Vec::new(), Some(Arc::new(options_file(dsn)?))),
            Dialect::Sqlite => (Vec::new(), None),
        };
        Ok(Self {
            dialect: dsn.dialect(),
            place: dsn.place(),
            environment,
            file,
        })
    }

    /// Refuses a program that is for another product.
    pub(super) fn check(&self, program: Program) -> Result<(), ToolError> {
        let fits = match self.dialect {
            Dialect::Postgres => program.is_postgres(),
            Dialect::MySql => !program.is_postgres(),
            Dialect::Sqlite => false,
        };
        if fits {
            return Ok(());
        }
        Err(ToolError::WrongDialect {
            program,
            place: self.place.clone(),
        })
    }

    /// Arguments that come before all others.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let file = self.file.as_ref();
        file.map(|file| {
            let mut argument = OsString::from("--defaults-file=");
            argument.push(file.path());
            argument
        })
        .into_iter()
        .collect()
    }

    pub(super) fn environment(&self) -> &[(&'static str, OsString)] {
        &self.environment
    }

    pub(super) fn variables_to_remove() -> &'static [&'static str] {
        &FOREIGN_VARIABLES
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({})", self.place)
    }
}

fn postgres_environment(dsn: &Dsn) -> Vec<(&'static str, OsString)> {
    let mut variables: Vec<(&'static str, OsString)> = vec![
        ("PGAPPNAME", "lockkeeper".into()),
        ("PGCONNECT_TIMEOUT", CONNECT_TIMEOUT_S.into()),
        ("PGCLIENTENCODING", "UTF8".into()),
    ];
    match dsn.address() {
        Some(Address::Tcp(host, port)) => {
            variables.push(("PGHOST", host.into()));
            variables.push(("PGPORT", port.to_string().into()));
        }
        Some(Address::Unix(folder)) => variables.push(("PGHOST", folder.into())),
        None => {}
    }
    let password = dsn.password().or_else(|| dsn.parameter("password"));
    let optional = [
        ("PGUSER", dsn.user()),
        ("PGPASSWORD", password),
        ("PGDATABASE", dsn.database()),
        ("PGSSLMODE", dsn.parameter("sslmode")),
        ("PGSSLROOTCERT", dsn.parameter("sslrootcert")),
        ("PGSSLCERT", dsn.parameter("sslcert")),
        ("PGSSLKEY", dsn.parameter("sslkey")),
        ("PGOPTIONS", dsn.parameter("options")),
    ];
    variables.extend(
        optional
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?.into()))),
    );
    variables
}

/// `mkstemp` makes it readable by its owner alone.
fn options_file(dsn: &Dsn) -> std::io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix("lockkeeper-login-").tempfile()?;
    file.write_all(mysql_options(dsn).as_bytes())?;
    file.flush()?;
    Ok(file)
}

fn mysql_options(dsn: &Dsn) -> String {
    let mut text = "[client]\n".to_owned();
    let mut set = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name} = \"{}\"", escaped(value));
    };
    match dsn.address() {
        Some(Address::Tcp(host, port)) => {
            set("host", host);
            set("port", &port.to_string());
            // A host called localhost would mean the socket.
            set("protocol", "tcp");
        }
        Some(Address::Unix(socket)) => set("socket", &socket.to_string_lossy()),
        None => {}
    }
    let parameter = |names: &[&str]| names.iter().find_map(|name| dsn.parameter(name));
    let optional = [
        ("user", dsn.user()),
        ("password", dsn.password()),
        ("ssl-ca", parameter(&["ssl-ca", "sslca"])),
        ("ssl-cert", parameter(&["ssl-cert", "sslcert"])),
        ("ssl-key", parameter(&["ssl-key", "sslkey"])),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            set(name, value);
        }
    }
    set("default-character-set", "utf8mb4");
    text.push_str(tls_options(parameter(&["ssl-mode", "sslmode", "tls"])));
    text
}

/// MariaDB's programs have two switches where MySQL's have modes. `loose-` lets either product skip what it does
/// not know.
fn tls_options(mode: Option<&str>) -> &'static str {
    match mode
        .unwrap_or_default()
        .to_ascii_lowercase()
        .replace('-', "_")
        .as_str()
    {
        "disabled" | "disable" | "false" => "loose-skip-ssl\nloose-ssl-mode = DISABLED\n",
        "required" | "require" | "skip_verify" => "loose-ssl\nloose-ssl-mode = REQUIRED\n",
        "verify_ca" => "loose-ssl\nloose-ssl-mode = VERIFY_CA\nloose-ssl-verify-server-cert\n",
        "verify_identity" | "verify_full" | "true" => {
            "loose-ssl\nloose-ssl-mode = VERIFY_IDENTITY\nloose-ssl-verify-server-cert\n"
        }
        _ => "",
    }
}

/// Inside of double quotes a backslash escapes.
fn escaped(value: &str) -> String {
    value.chars().fold(String::new(), |mut text, c| {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            other => text.push(other),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_cannot_be_broken_by_a_password() {
        let dsn = Dsn::parse("mysql://app:a%22b%5Cc%23%0Ad@h:3307/db?tls=true").unwrap();
        let text = mysql_options(&dsn);
        assert!(text.contains("password = \"a\\\"b\\\\c#\\nd\"\n"), "{text}");
        assert!(
            text.contains("port = \"3307\"\n") && text.contains("loose-ssl-verify-server-cert\n"),
            "{text}"
        );
    }

    #[test]
    fn a_login_shows_no_password() {
        let dsn = Dsn::parse("postgres://app:hunter2@h/db").unwrap();
        let login = Login::new(&dsn).unwrap();
        assert_eq!(format!("{login:?}"), "Login(postgres://h:5432/db)");
        assert!(login.arguments().is_empty());
        let password = login.environment().iter().find(|(name, _)| *name == "PGPASSWORD");
        assert_eq!(password.unwrap().1, "hunter2");
    }

    #[test]
    fn a_program_of_another_product_is_refused() {
        let login = Login::new(&Dsn::parse("postgres://h/db").unwrap()).unwrap();
        assert!(login.check(Program::PgDump).is_ok());
        assert!(login.check(Program::MariaDb).is_err());
    }
}
