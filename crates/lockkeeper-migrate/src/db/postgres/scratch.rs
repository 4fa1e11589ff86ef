//! Scratch databases on a PostgreSQL server. The owner's mark is a session-level advisory lock: advisory locks of
//! all databases are to be seen in `pg_locks`, by every role.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::session::{Connector, Session, code, db_error, quote, run};
use crate::db::scratch::{Look, ScratchName, ScratchServer};
use crate::db::{DatabaseOptions, DbError};
use crate::dsn::Dsn;

/// What makes an empty database like another one. `template0` takes every encoding and locale.
const OPTIONS: &str = "SELECT format('TEMPLATE template0 ENCODING %L', pg_encoding_to_char(d.encoding)) \
        || coalesce(format(' LC_COLLATE %L LC_CTYPE %L', to_jsonb(d)->>'datcollate', to_jsonb(d)->>'datctype'), '') \
        || CASE WHEN to_jsonb(d)->>'datlocprovider' = 'i' \
                THEN format(' LOCALE_PROVIDER icu ICU_LOCALE %L', \
                            coalesce(to_jsonb(d)->>'daticulocale', to_jsonb(d)->>'datlocale')) \
                ELSE '' END, \
        current_database() \
     FROM pg_database d WHERE d.datname = current_database()";

/// Settings that hold for everybody in this database.
const SETTINGS: &str = "SELECT split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1) \
     FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) setting \
     WHERE d.datname = current_database() AND s.setrole = 0";

const OWNED: &str = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
     AND classid::bigint = ($1 >> 32) & 4294967295 AND objid::bigint = $1 & 4294967295)";

/// What a barrier left in the dump, and the logins of foreign servers: nothing may reach another database from here.
const TIDY: [&str; 2] = [
    "SELECT format('DROP FUNCTION %s CASCADE', p.oid::regprocedure) FROM pg_proc p \
     WHERE p.proname LIKE 'lockkeeper\\_%' AND p.pronamespace::regnamespace::text NOT LIKE 'pg\\_%'",
    "SELECT format('DROP USER MAPPING FOR %s SERVER %I', \
                   CASE WHEN umuser = 0 THEN 'PUBLIC' ELSE quote_ident(usename) END, srvname) FROM pg_user_mappings",
];

/// A session on the server, which holds the marks.
#[derive(Debug)]
struct PgScratch {
    connector: Connector,
    place: Dsn,
    options: DatabaseOptions,
    session: Session,
}

pub(crate) async fn scratch_server(
    place: &Dsn,
    options: &DatabaseOptions,
) -> Result<Box<dyn ScratchServer>, DbError> {
    let connector = Connector::new(place, options.clone());
    let session = connector.connect().await?;
    Ok(Box::new(PgScratch {
        connector,
        place: place.clone(),
        options: options.clone(),
        session,
    }))
}

pub(crate) async fn look(dsn: &Dsn, options: &DatabaseOptions) -> Result<Look, DbError> {
    let mut session = Connector::new(dsn, options.clone()).connect().await?;
    let found = read(&mut session.conn).await;
    session.close().await;
    found
}

async fn read(conn: &mut PgConnection) -> Result<Look, DbError> {
    let row = sqlx::query(OPTIONS)
        .fetch_one(&mut *conn)
        .await
        .map_err(db_error)?;
    let settings = sqlx::query(SETTINGS).fetch_all(conn).await.map_err(db_error)?;
    Ok(Look {
        database: row.get(1),
        options: row.get(0),
        settings: settings.iter().map(|row| (row.get(0), row.get(1))).collect(),
        own_tables: Vec::new(),
    })
}

#[async_trait]
impl ScratchServer for PgScratch {
    async fn sweep(&mut self, age: Duration) -> Result<Vec<String>, DbError> {
        let names: Vec<String> = sqlx::query_scalar("SELECT datname::text FROM pg_database ORDER BY 1")
            .fetch_all(&mut self.session.conn)
            .await
            .map_err(db_error)?;
        let mut dropped = Vec::new();
        for name in names.iter().filter_map(|name| ScratchName::parse(name)) {
            if !name.is_older_than(age) || self.is_owned(&name).await? {
                continue;
            }
            match self.remove(&name).await {
                Ok(()) => dropped.push(name.to_string()),
                // Another role's: whoever made it can drop it.
                Err(error) => tracing::warn!(%name, %error, "left-over scratch database not dropped"),
            }
        }
        Ok(dropped)
    }

    async fn create(&mut self, name: &ScratchName, like: &Look) -> Result<(), DbError> {
        sqlx::query("SELECT pg_advisory_lock($1)")
            .bind(name.number())
            .execute(&mut self.session.conn)
            .await
            .map_err(db_error)?;
        let made = run(
            &mut self.session.conn,
            format!("CREATE DATABASE {name} {}", like.options),
        )
        .await;
        if let Err(error) = made {
            return Err(self.explain(error).await);
        }
        for (setting, value) in &like.settings {
            self.set(name, setting, value).await?;
        }
        Ok(())
    }

    fn dsn(&self, name: &ScratchName) -> Result<Dsn, DbError> {
        Ok(self.place.with_database(name.as_str()))
    }

    async fn tidy(&mut self, name: &ScratchName, _: &Look) -> Result<(), DbError> {
        let connector = Connector::new(&self.dsn(name)?, self.options.clone());
        let mut session = connector.connect().await?;
        let tidied = tidy(&mut session.conn).await;
        session.close().await;
        tidied
    }

    async fn remove(&mut self, name: &ScratchName) -> Result<(), DbError> {
        if self.session_is_lost().await {
            self.session = self.connector.connect().await?;
        }
        let conn = &mut self.session.conn;
        // A session that was cut off in the middle of a statement lives on in the server until it notices.
        sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1")
            .bind(name.as_str())
            .execute(&mut *conn)
            .await
            .map_err(db_error)?;
        let force = if conn.server_version_num().is_some_and(|number| number >= 130_000) {
            " WITH (FORCE)"
        } else {
            ""
        };
        run(&mut *conn, format!("DROP DATABASE IF EXISTS {name}{force}")).await?;
        sqlx::query("SELECT pg_advisory_unlock($1)")
            .bind(name.number())
            .execute(conn)
            .await
            .map_err(db_error)?;
        Ok(())
    }
}

impl PgScratch {
    async fn is_owned(&mut self, name: &ScratchName) -> Result<bool, DbError> {
        let row = sqlx::query(OWNED)
            .bind(name.number())
            .fetch_one(&mut self.session.conn)
            .await
            .map_err(db_error)?;
        Ok(row.get(0))
    }

    async fn session_is_lost(&mut self) -> bool {
        run(&mut self.session.conn, "SELECT 1").await.is_err()
    }

    /// Lists of names (`search_path`) are quoted piece by piece by the server itself.
    async fn set(&mut self, name: &ScratchName, setting: &str, value: &str) -> Result<(), DbError> {
        let conn = &mut self.session.conn;
        let set = sqlx::query("SELECT set_config($1, $2, false)")
            .bind(setting)
            .bind(value)
            .execute(&mut *conn)
            .await
            .map_err(db_error);
        let kept = format!("ALTER DATABASE {name} SET {} FROM CURRENT", setting_name(setting));
        let result = match set {
            Ok(_) => run(&mut *conn, kept).await,
            Err(error) => Err(error),
        };
        // One that only a superuser may set changes nothing that a schema is made of.
        match result {
            Err(error) if code(&error) == Some("42501") => Ok(()),
            other => other,
        }
    }

    async fn explain(&mut self, error: DbError) -> DbError {
        if code(&error) != Some("42501") {
            return error;
        }
        let role = sqlx::query_scalar::<_, String>("SELECT current_user::text")
            .fetch_one(&mut self.session.conn)
            .await
            .unwrap_or_else(|_| "ROLE".to_owned());
        DbError::Permission {
            what: "make a scratch database".to_owned(),
            remedy: format!(
                "ALTER ROLE {} CREATEDB, or name another server with --scratch",
                quote(&role)
            ),
        }
    }
}

/// Names of settings have no quotes but dots: `plpgsql.extra_warnings`.
fn setting_name(setting: &str) -> String {
    setting.split('.').map(quote).collect::<Vec<_>>().join(".")
}

async fn tidy(conn: &mut PgConnection) -> Result<(), DbError> {
    for question in TIDY {
        let statements: Vec<String> = sqlx::query_scalar(question)
            .fetch_all(&mut *conn)
            .await
            .map_err(db_error)?;
        for statement in statements {
            run(&mut *conn, statement).await?;
        }
    }
    // Asked once more, since a view may hide what this role may not see.
    let left = "SELECT count(*) FROM pg_user_mappings";
    let left = sqlx::query(AssertSqlSafe(left))
        .fetch_one(conn)
        .await
        .map_err(db_error)?;
    match left.get::<i64, _>(0) {
        0 => Ok(()),
        _ => Err(DbError::Unsupported(
            "the scratch database can reach foreign servers, and this role may not take that from it"
                .to_owned(),
        )),
    }
}
