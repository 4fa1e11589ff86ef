//! PostgreSQL, 11 and newer.
//!
//! | module | what it holds |
//! |---|---|
//! | `admin` | an administrator's session, which is no hand: for making a database |
//! | `session` | one session: opening it, its errors, whether a pooler is in between |
//! | `identity` | which server this is |
//! | `schema`, `shape` | lockkeeper's own tables: made, brought up to date, and checked |
//! | `book` | the ledger that was chosen: our own, or a tool's table |
//! | `gate` | the gate row, and holding it under a claim |
//! | `take` | the takeover protocol |
//! | `hand` | the leader's own hand |
//! | `barrier`, `raise` | the triggers; raising them and waiting out older writers |
//! | `epoch_table` | strength EPOCH: what writers touch, and what closing drops |
//! | `blockers`, `watch` | who is in the way, named and ended through a second session |
//! | `apply`, `pieces` | a migration in one transaction |
//! | `stepwise`, `units`, `journal`, `classify` | one that no transaction can hold |
//! | `resolve` | what a person says about a statement in doubt |
//! | `ledger` | the ledger's rows |
//! | `catalogue` | the schema, read from the system catalogues |
//! | `scratch` | databases that live as long as one rehearsal |
//! | `measure` | what each statement locked and wrote anew |
//! | `notices` | what the server says beside its answers |
//! | `break_glass` | what a person may do without a fleet |
//! | `verify`, `clean_up`, `preflight` | the rest of the port |
//! | `upkeep`, `restore`, `examine` | row counts and records of backups; what goes around a restore; what `doctor` looks at |

mod admin;
mod apply;
mod barrier;
mod blockers;
mod book;
mod break_glass;
mod catalogue;
mod classify;
mod clean_up;
mod epoch_table;
mod examine;
mod gate;
mod guest;
mod hand;
mod identity;
mod journal;
mod ledger;
mod measure;
mod notices;
mod pieces;
mod preflight;
mod raise;
mod resolve;
mod restore;
mod schema;
mod scratch;
mod session;
mod shape;
mod stepwise;
mod take;
mod units;
mod upkeep;
mod verify;
mod watch;

pub(super) use admin::PostgresAdmin;
pub(super) use scratch::{look, scratch_server};

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgConnection;

use self::book::Book;
use self::gate::Lock;
use self::hand::PgHand;
use self::session::{Connector, Session};
use super::{
    Blocker, Books, Claim, Database, DatabaseOptions, DbError, ExecutorId, Finding, Hand, Inspection,
    Observer, TakeError, VerifyOutcome,
};
use crate::dialect::Dialect;
use crate::dsn::Dsn;
use crate::fingerprint::Schema;
use crate::ledger::{LedgerChoice, LedgerEntry};
use crate::sql::Statement;

/// A PostgreSQL database.
pub struct Postgres {
    connector: Connector,
}

impl Postgres {
    /// The database that `dsn` names. Opens nothing yet; a parameter of the DSN that has no meaning is told by the
    /// first session.
    #[must_use]
    pub fn new(dsn: &Dsn, options: DatabaseOptions) -> Self {
        Self {
            connector: Connector::new(dsn, options),
        }
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Postgres({})", self.connector.place)
    }
}

#[async_trait]
impl Database for Postgres {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    async fn inspect(&self) -> Result<Inspection, DbError> {
        let mut session = self.connector.connect().await?;
        let inspection = inspect(&mut session, self.connector.settings.ledger).await;
        session.close().await;
        inspection
    }

    async fn schema(&self) -> Result<Schema, DbError> {
        let mut session = self.connector.connect().await?;
        let schema = catalogue::read(&mut session.conn).await;
        session.close().await;
        schema
    }

    async fn verify(&self, statements: &[Statement]) -> Result<VerifyOutcome, DbError> {
        let mut session = self.connector.connect().await?;
        let read_only = session::run(&mut session.conn, "SET default_transaction_read_only = on").await;
        let limit = self.connector.settings.statement_timeout;
        let outcome = match read_only {
            Ok(()) => verify::verify(&mut session.conn, statements, limit).await,
            Err(error) => Err(error),
        };
        session.close().await;
        outcome
    }

    async fn preflight(&self) -> Result<Vec<Finding>, DbError> {
        let mut session = match self.connector.connect().await {
            Ok(session) => session,
            Err(error @ DbError::Unsupported(_)) => return Ok(vec![pooler(&error)]),
            Err(error) => return Err(error),
        };
        let strength = self.connector.settings.strength;
        let findings = preflight::preflight(&mut session.conn, strength).await;
        session.close().await;
        findings
    }

    async fn take(
        &self,
        claim: &Claim,
        patience: Duration,
        observer: &dyn Observer,
    ) -> Result<Box<dyn Hand>, TakeError> {
        let taken = take::take(&self.connector, claim, patience, observer).await?;
        let mut hand = PgHand::new(self.connector.clone(), taken);
        if let Claim::Leader { .. } = claim {
            hand.arm().await?;
        }
        Ok(Box::new(hand))
    }

    async fn blockers(&self, executor: &ExecutorId) -> Result<Vec<Blocker>, DbError> {
        let mut session = self.connector.connect().await?;
        let found = blockers::of_lock(&mut session.conn, &executor.session).await;
        session.close().await;
        Ok(blockers::plain(&found?))
    }

    async fn end_executor(&self, executor: &ExecutorId, patience: Duration) -> Result<(), DbError> {
        hand::end_executor(&self.connector, executor, patience).await
    }

    async fn guest_findings(&self) -> Result<Vec<Finding>, DbError> {
        let mut session = self.connector.connect().await?;
        let findings = guest::findings(&mut session.conn).await;
        session.close().await;
        findings
    }

    async fn cancel(&self, executor: &ExecutorId) -> Result<(), DbError> {
        let mut session = self.connector.connect().await?;
        let cancelled = blockers::cancel(&mut session.conn, executor).await;
        session.close().await;
        cancelled
    }
}

async fn inspect(session: &mut Session, choice: LedgerChoice) -> Result<Inspection, DbError> {
    let conn = &mut session.conn;
    let identity = identity::identity(conn).await?;
    let server = identity::server(conn).await?;
    let other_ledgers = schema::other_ledgers(conn).await?;
    let Some(names) = schema::find(conn, choice).await? else {
        let ledger = untouched(conn, choice).await?;
        return Ok(Inspection {
            identity,
            server,
            gate_row: None,
            ledger,
            other_ledgers,
            books: Books {
                chosen: choice,
                kept: choice,
                ..Books::default()
            },
        });
    };
    let found = gate::read(conn, &names, Lock::None).await?;
    let ledger = ledger::read(conn, &names).await?;
    let books = ledger::books(conn, &names).await?;
    Ok(Inspection {
        identity,
        server,
        gate_row: Some(found.row),
        ledger,
        other_ledgers,
        books,
    })
}

/// The history of a database that lockkeeper has never touched.
async fn untouched(conn: &mut PgConnection, choice: LedgerChoice) -> Result<Vec<LedgerEntry>, DbError> {
    match Book::find(conn, choice, "public").await? {
        Book::Own => Ok(Vec::new()),
        Book::Tool(table) => table.read(conn).await,
    }
}

fn pooler(error: &DbError) -> Finding {
    Finding {
        level: super::FindingLevel::Error,
        code: "pooler".to_owned(),
        message: error.to_string(),
        remedy: "give a DSN that reaches the server directly, beside the pooled one of the service"
            .to_owned(),
    }
}
