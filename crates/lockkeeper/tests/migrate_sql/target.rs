//! The three dialects, each with a server that the tests of this binary share, and the binary run on a database of
//! its own.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use lockkeeper_tests::mariadb::MariaDb;
use lockkeeper_tests::postgres::Postgres;
use tokio::time::Instant;

use super::support::{Done, Folder};

/// Longest wait for anything that is meant to come soon.
const SOON: Duration = Duration::from_secs(30);

static DATABASES: AtomicU32 = AtomicU32::new(0);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Postgres,
    MariaDb,
    Sqlite,
}

enum Server {
    Postgres(Arc<Postgres>),
    MariaDb(Arc<MariaDb>),
    Sqlite,
}

/// The running server of its kind; the last test that uses it stops it.
fn shared<T>(slot: &Mutex<Weak<T>>, start: impl FnOnce() -> T) -> Arc<T> {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    slot.upgrade().unwrap_or_else(|| {
        let server = Arc::new(start());
        *slot = Arc::downgrade(&server);
        server
    })
}

/// A folder with migrations, and a database for them.
pub(crate) struct Target {
    pub(crate) folder: Folder,
    server: Server,
    name: String,
}

impl Target {
    /// An empty database and an empty folder.
    pub(crate) fn new(dialect: Dialect) -> Self {
        static POSTGRES: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        static MARIADB: Mutex<Weak<MariaDb>> = Mutex::new(Weak::new());
        let name = format!("t{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let server = match dialect {
            Dialect::Postgres => {
                let server = shared(&POSTGRES, || Postgres::start().unwrap());
                server.create_database(&name).unwrap();
                Server::Postgres(server)
            }
            Dialect::MariaDb => {
                let server = shared(&MARIADB, || MariaDb::start().unwrap());
                server.create_database(&name).unwrap();
                Server::MariaDb(server)
            }
            Dialect::Sqlite => Server::Sqlite,
        };
        Self {
            folder: Folder::empty(),
            server,
            name,
        }
    }

    /// Up migrations `1`, `2`, … with a down that does nothing.
    pub(crate) fn with(dialect: Dialect, ups: &[&str]) -> Self {
        let target = Self::new(dialect);
        for (index, up) in ups.iter().enumerate() {
            target.migration(index + 1, up);
        }
        target
    }

    pub(crate) fn migration(&self, version: usize, up: &str) {
        self.folder.migration(&format!("{version}_m"), up, "SELECT 1");
    }

    pub(crate) fn dsn(&self) -> String {
        match &self.server {
            Server::Postgres(server) => server.app_dsn(&self.name),
            Server::MariaDb(server) => server.app_dsn(&self.name),
            Server::Sqlite => super::support::DSN.to_owned(),
        }
    }

    /// `lockkeeper migrate sql ARGS DSN`, not started yet.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let dsn = self.dsn();
        let args: Vec<&str> = args.iter().copied().chain([dsn.as_str()]).collect();
        self.folder.command(&args)
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        Done::from(self.command(args).output().unwrap())
    }

    /// `up`, which must succeed.
    pub(crate) fn up(&self) -> Done {
        let done = self.run(&["up", "--yes", "--format", "json"]);
        assert_eq!(done.code, 0, "{done:?}");
        done
    }

    /// `up` of the first migration only: the others are not there yet for it.
    pub(crate) fn up_to_first(&self) {
        let rest: Vec<(usize, String)> = (2..)
            .map_while(|version| {
                Some((
                    version,
                    self.folder.take(&format!("migrations/{version}_m.up.sql"))?,
                ))
            })
            .collect();
        for (version, _) in &rest {
            self.folder.remove(&format!("migrations/{version}_m.down.sql"));
        }
        self.up();
        for (version, up) in rest {
            self.migration(version, &up);
        }
    }

    /// `up` in the background.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        let mut command = self.command(&[&["up", "--yes", "--format", "json"], args].concat());
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs SQL beside lockkeeper, as the server's administrator.
    pub(crate) fn sql(&self, sql: &str) -> String {
        match &self.server {
            Server::Postgres(server) => server.sql(&self.name, sql).unwrap(),
            Server::MariaDb(server) => server.sql(&self.name, sql).unwrap(),
            Server::Sqlite => self.folder.text(sql),
        }
    }

    /// Waits until a query answers this.
    pub(crate) fn wait_for(&self, query: &str, answer: &str) {
        let deadline = Instant::now() + SOON;
        while self.sql(query) != answer {
            assert!(Instant::now() < deadline, "{query} never answered {answer}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Waits for a process that is meant to end soon.
pub(crate) fn ended(mut child: Child) -> Done {
    let deadline = Instant::now() + SOON;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() >= deadline {
            child.kill().unwrap();
            panic!("did not end: {:?}", Done::from(child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Done::from(child.wait_with_output().unwrap())
}
