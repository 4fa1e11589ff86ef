//! Scratch databases on a MariaDB or MySQL server. The owner's mark is a user lock: user locks are the server's, and
//! go with their session.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::failure::Failure;
use super::session::Session;
use super::target::Target;
use super::text;
use crate::db::scratch::{Look, ScratchName, ScratchServer};
use crate::db::{DatabaseOptions, DbError};
use crate::dsn::Dsn;

/// How long a killed session may keep the database's tables.
const DROP_LIMIT: Duration = Duration::from_secs(20);

/// Programs and views, by kind and name, with their text.
const PROGRAMS: &str = "SELECT CONCAT(LOWER(ROUTINE_TYPE), ' ', ROUTINE_NAME), ROUTINE_DEFINITION \
       FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {db} \
     UNION ALL SELECT CONCAT('trigger ', TRIGGER_NAME), ACTION_STATEMENT \
       FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {db} \
     UNION ALL SELECT CONCAT('event ', EVENT_NAME), EVENT_DEFINITION \
       FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {db} \
     UNION ALL SELECT CONCAT('view ', TABLE_NAME), VIEW_DEFINITION \
       FROM information_schema.VIEWS WHERE TABLE_SCHEMA = {db}";

#[derive(Debug)]
struct MySqlScratch {
    target: Target,
    place: Dsn,
    session: Session,
}

pub(crate) async fn scratch_server(
    place: &Dsn,
    options: &DatabaseOptions,
) -> Result<Box<dyn ScratchServer>, DbError> {
    let target = Target::new(place, options.clone());
    let session = connect(&target).await?;
    Ok(Box::new(MySqlScratch {
        target,
        place: place.clone(),
        session,
    }))
}

async fn connect(target: &Target) -> Result<Session, DbError> {
    let mut session = target.connect().await?;
    // It idles while migrations run, and its lock is the mark.
    target.prepare(&mut session).await?;
    Ok(session)
}

pub(crate) async fn look(dsn: &Dsn, options: &DatabaseOptions) -> Result<Look, DbError> {
    let target = Target::new(dsn, options.clone());
    let mut session = target.connect().await?;
    let found = read(&mut session, &target.database).await;
    session.close().await;
    Ok(found?)
}

async fn read(session: &mut Session, database: &str) -> Result<Look, Failure> {
    let name = text::literal(database);
    let sql = format!(
        "SELECT CONCAT('CHARACTER SET ', DEFAULT_CHARACTER_SET_NAME, ' COLLATE ', DEFAULT_COLLATION_NAME) \
         FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {name}"
    );
    let options = session.value(&sql).await?.unwrap_or_default();
    let sql = format!(
        "SELECT TABLE_NAME FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = {name} AND TABLE_NAME LIKE 'lockkeeper\\_%'"
    );
    let own_tables = session
        .rows(&sql)
        .await?
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    Ok(Look {
        database: database.to_owned(),
        options,
        settings: Vec::new(),
        own_tables,
    })
}

#[async_trait]
impl ScratchServer for MySqlScratch {
    async fn sweep(&mut self, age: Duration) -> Result<Vec<String>, DbError> {
        let rows = self
            .session
            .rows("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA ORDER BY 1")
            .await?;
        let names: Vec<ScratchName> = rows
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|name| ScratchName::parse(&name))
            .collect();
        let mut dropped = Vec::new();
        for name in names {
            let owner = format!("SELECT IS_USED_LOCK({})", text::literal(name.as_str()));
            if !name.is_older_than(age) || self.session.value(&owner).await?.is_some() {
                continue;
            }
            match self.remove(&name).await {
                Ok(()) => dropped.push(name.to_string()),
                Err(error) => tracing::warn!(%name, %error, "left-over scratch database not dropped"),
            }
        }
        Ok(dropped)
    }

    async fn create(&mut self, name: &ScratchName, like: &Look) -> Result<(), DbError> {
        let mark = format!("SELECT GET_LOCK({}, 5)", text::literal(name.as_str()));
        self.session.run(&mark).await?;
        let sql = format!("CREATE DATABASE {name} {}", like.options);
        match self.session.run(&sql).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.is_denied() => Err(DbError::Permission {
                what: "make a scratch database".to_owned(),
                remedy: format!(
                    "GRANT ALL ON `lockkeeper\\_rehearsal\\_%`.* TO {}, or name another server with --scratch",
                    self.user().await
                ),
            }),
            Err(failure) => Err(failure.into()),
        }
    }

    fn dsn(&self, name: &ScratchName) -> Result<Dsn, DbError> {
        Ok(self.place.with_database(name.as_str()))
    }

    async fn tidy(&mut self, name: &ScratchName, like: &Look) -> Result<(), DbError> {
        let sql = format!(
            "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS \
             WHERE TRIGGER_SCHEMA = {} AND TRIGGER_NAME LIKE 'lockkeeper\\_%'",
            text::literal(name.as_str())
        );
        for trigger in self.session.rows(&sql).await?.into_iter().flatten().flatten() {
            let drop = format!("DROP TRIGGER {name}.{}", text::name(&trigger));
            self.session.run(&drop).await?;
        }
        self.refuse_ways_out(name, &like.database).await
    }

    async fn remove(&mut self, name: &ScratchName) -> Result<(), DbError> {
        if self.session.run("SELECT 1").await.is_err() {
            self.session = connect(&self.target).await?;
        }
        let deadline = Instant::now() + DROP_LIMIT;
        loop {
            self.end_sessions(name).await?;
            match self.session.run(&format!("DROP DATABASE IF EXISTS {name}")).await {
                Ok(_) => break,
                Err(failure) if failure.is_retryable() && Instant::now() < deadline => {
                    sleep(Duration::from_millis(fastrand::u64(50..200))).await;
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        let unmark = format!("DO RELEASE_LOCK({})", text::literal(name.as_str()));
        self.session.run(&unmark).await?;
        Ok(())
    }
}

impl MySqlScratch {
    async fn user(&mut self) -> String {
        let user = self.session.value("SELECT CURRENT_USER()").await.ok().flatten();
        let user = user.unwrap_or_else(|| "USER@HOST".to_owned());
        user.rsplit_once('@')
            .map_or(user.clone(), |(name, host)| format!("'{name}'@'{host}'"))
    }

    /// Sessions that were cut off in the middle of a statement live on until it ends.
    async fn end_sessions(&mut self, name: &ScratchName) -> Result<(), DbError> {
        let sql = format!(
            "SELECT ID FROM information_schema.PROCESSLIST WHERE DB = {}",
            text::literal(name.as_str())
        );
        for id in self.session.rows(&sql).await?.into_iter().flatten().flatten() {
            // One that ends by itself meanwhile is what was wanted.
            let _ = self.session.run(&format!("KILL {id}")).await;
        }
        Ok(())
    }

    /// A routine that names the rehearsed database would change it from here.
    async fn refuse_ways_out(&mut self, name: &ScratchName, database: &str) -> Result<(), DbError> {
        let sql = PROGRAMS.replace("{db}", &text::literal(name.as_str()));
        for row in self.session.rows(&sql).await? {
            let [program, body] = <[_; 2]>::try_from(row).unwrap_or_default();
            if body.is_some_and(|body| names(&body, database)) {
                let program = program.unwrap_or_default();
                return Err(DbError::Unsupported(format!(
                    "{program} names database {database} itself, so a rehearsal could change it; take the database's \
                     name out of it, or rehearse on another server with --scratch"
                )));
            }
        }
        Ok(())
    }
}

/// Whether SQL text names something in this database: `db.t`, `` `db`.`t` ``, also inside of quotes.
pub(crate) fn names(sql: &str, database: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
    let (sql, database) = (sql.to_lowercase(), database.to_lowercase());
    sql.match_indices(&database).any(|(at, _)| {
        let before = sql[..at].chars().next_back();
        let after = sql[at + database.len()..].trim_start_matches('`').trim_start();
        before.is_none_or(|c| !is_word(c) && c != '.') && after.starts_with('.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_named_is_found() {
        for text in [
            "SELECT * FROM app.t",
            "DELETE FROM `App` . `t`",
            "PREPARE s FROM 'DROP TABLE app.t'",
        ] {
            assert!(names(text, "app"), "{text}");
        }
        for text in [
            "SELECT app FROM t",
            "SELECT * FROM my_app.t",
            "SELECT * FROM apple.t",
            "SELECT x.app.t",
        ] {
            assert!(!names(text, "app"), "{text}");
        }
    }
}
