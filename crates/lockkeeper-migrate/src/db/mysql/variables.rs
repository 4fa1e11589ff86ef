//! Session variables that a migration sets hold for that migration only.

use std::collections::BTreeMap;

use super::failure::Failure;
use super::session::Session;
use super::take::use_database;
use super::target::Target;
use super::text::literal;
use crate::sql::{Statement, StatementKind};

/// They change by themselves, or setting them does something else than restoring a setting.
const LEFT_ALONE: [&str; 18] = [
    "debug_sync",
    "error_count",
    "external_user",
    "gtid_next",
    "gtid_seq_no",
    "identity",
    "in_transaction",
    "insert_id",
    "last_gtid",
    "last_insert_id",
    "proxy_user",
    "pseudo_slave_mode",
    "pseudo_thread_id",
    "rand_seed1",
    "rand_seed2",
    "skip_parallel_replication",
    "timestamp",
    "warning_count",
];

/// The session as it was before a migration; nothing when the migration sets nothing.
#[derive(Debug, Default)]
pub(super) struct Variables(Option<BTreeMap<String, String>>);

impl Variables {
    pub(super) async fn before(session: &mut Session, statements: &[Statement]) -> Result<Self, Failure> {
        // CALL and EXECUTE may set variables as well.
        let sets = |kind: &StatementKind| {
            matches!(
                kind,
                StatementKind::Session | StatementKind::Other | StatementKind::TransactionControl(_)
            )
        };
        if !statements.iter().any(|statement| sets(&statement.kind)) {
            return Ok(Self(None));
        }
        Ok(Self(Some(read(session).await?)))
    }

    /// Sets what differs back, and makes the target's database current again.
    pub(super) async fn restore(self, session: &mut Session, target: &Target) -> Result<(), Failure> {
        let Some(before) = self.0 else {
            return Ok(());
        };
        session.run(&use_database(target)).await?;
        for (variable, now) in read(session).await? {
            let Some(then) = before.get(&variable).filter(|then| **then != now) else {
                continue;
            };
            let set = session
                .run(&format!("SET SESSION {variable} = {}", value(then)))
                .await;
            match set {
                Err(failure) if failure.is_lost() => return Err(failure),
                // Variables that only the server changes answer an error here.
                Err(failure) => {
                    tracing::debug!(%variable, %failure, "session variable left as the migration set it")
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }
}

async fn read(session: &mut Session) -> Result<BTreeMap<String, String>, Failure> {
    let rows = session.rows("SHOW SESSION VARIABLES").await?;
    let pairs = rows.into_iter().filter_map(|row| {
        let [Some(variable), Some(value)] = <[_; 2]>::try_from(row).ok()? else {
            return None;
        };
        Some((variable, value))
    });
    Ok(pairs
        .filter(|(variable, _)| !LEFT_ALONE.contains(&variable.as_str()))
        .collect())
}

/// Numbers go bare: a text is refused for a number's variable.
fn value(text: &str) -> String {
    if text.parse::<f64>().is_ok() {
        text.to_owned()
    } else {
        literal(text)
    }
}
