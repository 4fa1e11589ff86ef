//! What would stop a fence or a migration, found beforehand.

use super::barrier;
use super::epoch_table;
use super::failure::{BINLOG_REMEDY, Failure};
use super::gate::{self, IS_OWN, Lock};
use super::grants::Grants;
use super::session::Session;
use super::target::{Facts, Target};
use super::text::{literal, name};
use crate::db::types::no_epoch_table;
use crate::db::{DbError, Finding, FindingLevel};

/// Older transactions are worth a warning: the barrier will wait for them, or end them.
const LONG_TRANSACTION_S: u32 = 5;

/// What lockkeeper's role needs on the database for itself; migrations need what they need besides.
const NEEDED: [&str; 6] = ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "TRIGGER"];

pub(super) async fn preflight(
    session: &mut Session,
    target: &Target,
    facts: &Facts,
) -> Result<Vec<Finding>, DbError> {
    let grants = Grants::read(session).await?;
    let mut look = Look {
        session,
        target,
        facts,
        grants,
        findings: Vec::new(),
    };
    look.server().await?;
    look.binary_log().await?;
    look.replica().await?;
    look.privileges().await?;
    look.identity().await?;
    look.foreign_keys().await?;
    look.tables().await?;
    look.transactions().await?;
    look.epoch_table().await?;
    let mut findings = look.findings;
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    Ok(findings)
}

struct Look<'a> {
    session: &'a mut Session,
    target: &'a Target,
    facts: &'a Facts,
    grants: Grants,
    findings: Vec<Finding>,
}

impl Look<'_> {
    fn add(
        &mut self,
        level: FindingLevel,
        code: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.findings.push(Finding {
            level,
            code: code.to_owned(),
            message: message.into(),
            remedy: remedy.into(),
        });
    }

    /// Whether writers carry the epoch of the gate that is open now.
    async fn epoch_table(&mut self) -> Result<(), DbError> {
        if !self.target.limits.strength.has_epoch() {
            return Ok(());
        }
        let there = !gate::missing_tables(self.session, self.target).await?;
        let record = match there {
            true => gate::read(self.session, self.target, Lock::None).await?,
            false => None,
        };
        let armed = match record {
            Some(record) => epoch_table::exists(self.session, self.target, record.row.opened).await?,
            None => false,
        };
        if !armed {
            self.findings.push(no_epoch_table());
        }
        Ok(())
    }

    /// A global variable; `None` when this server has none of that name.
    async fn variable(&mut self, variable: &str) -> Result<Option<String>, Failure> {
        let row = self
            .session
            .row(&format!("SHOW GLOBAL VARIABLES LIKE '{variable}'"))
            .await?;
        Ok(row.and_then(|row| row.into_iter().nth(1).flatten()))
    }

    async fn is_on(&mut self, variable: &str) -> Result<bool, Failure> {
        Ok(self
            .variable(variable)
            .await?
            .is_some_and(|value| matches!(value.as_str(), "ON" | "1")))
    }

    async fn names(&mut self, sql: &str) -> Result<Vec<String>, Failure> {
        let rows = self.session.rows(sql).await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| row.into_iter().next().flatten())
            .collect())
    }

    async fn server(&mut self) -> Result<(), Failure> {
        if self.is_on("read_only").await? || self.is_on("super_read_only").await? {
            self.add(
                FindingLevel::Error,
                "read-only",
                "the server is read-only",
                "give the DSN of the primary, or run `SET GLOBAL read_only = 0`",
            );
        }
        if self.is_on("wsrep_on").await? {
            self.add(
                FindingLevel::Error,
                "galera-cluster",
                "the server is a node of a Galera cluster: row locks and connection ids hold on one node only",
                "migrate through a server that is no cluster node, or fence cooperatively",
            );
        }
        Ok(())
    }

    async fn binary_log(&mut self) -> Result<(), Failure> {
        if !self.is_on("log_bin").await? {
            return Ok(());
        }
        if !self.is_on("log_bin_trust_function_creators").await? && !self.grants.global("SUPER") {
            self.add(
                FindingLevel::Error,
                "binlog-trigger",
                "the binary log is on and the role lacks SUPER: CREATE TRIGGER would answer error 1419",
                BINLOG_REMEDY,
            );
        }
        if self.variable("binlog_format").await?.as_deref() == Some("STATEMENT") {
            self.add(
                FindingLevel::Error,
                "statement-binlog",
                "binlog_format is STATEMENT: replicas would run the barrier's triggers again and stop",
                "run `SET GLOBAL binlog_format = MIXED` (or ROW) and reconnect the writers",
            );
        }
        Ok(())
    }

    /// Row events fire no triggers, so the barrier cannot hold what replication brings.
    async fn replica(&mut self) -> Result<(), Failure> {
        let asked = if self.facts.mariadb {
            "SHOW ALL SLAVES STATUS"
        } else {
            "SHOW REPLICA STATUS"
        };
        let is_replica = match self.session.any(asked).await {
            Ok(any) => any,
            Err(failure) if failure.is_lost() => return Err(failure),
            // Not allowed, or a release that calls it otherwise: what runs can be seen by everybody.
            Err(_) => {
                let running = self
                    .session
                    .rows("SHOW GLOBAL STATUS LIKE 'Slave%running'")
                    .await?;
                let value = |row: &Vec<Option<String>>| row.get(1).cloned().flatten().unwrap_or_default();
                running
                    .iter()
                    .any(|row| !matches!(value(row).as_str(), "" | "0" | "OFF"))
            }
        };
        if is_replica {
            self.add(
                FindingLevel::Error,
                "replica",
                "the server is a replica: changes that arrive by replication pass the barrier",
                "give the DSN of the primary, or run `STOP SLAVE; RESET SLAVE ALL` when it is a replica no longer",
            );
        }
        Ok(())
    }

    async fn privileges(&mut self) -> Result<(), Failure> {
        let user = self
            .session
            .value("SELECT CURRENT_USER()")
            .await?
            .unwrap_or_default();
        let role = user.split_once('@').map_or_else(
            || format!("'{user}'"),
            |(user, host)| format!("'{user}'@'{host}'"),
        );
        let database = self.target.database.clone();
        let missing: Vec<&str> = NEEDED
            .into_iter()
            .filter(|privilege| !self.grants.on_database(privilege, &database))
            .collect();
        if !missing.is_empty() {
            let list = missing.join(", ");
            self.add(
                FindingLevel::Error,
                "missing-privilege",
                format!("{user} lacks {list} on database {database}"),
                format!("run `GRANT {list} ON {}.* TO {role}`", name(&database)),
            );
        }
        if !self.grants.global("PROCESS") {
            self.add(
                FindingLevel::Warning,
                "cannot-see-sessions",
                format!("{user} lacks PROCESS: other users' transactions can neither be named nor found"),
                format!("run `GRANT PROCESS ON *.* TO {role}`"),
            );
        }
        let (end, grant) = if self.facts.mariadb {
            ("CONNECTION ADMIN", "CONNECTION ADMIN")
        } else {
            ("CONNECTION_ADMIN", "CONNECTION_ADMIN")
        };
        if !self.grants.global(end) && !self.grants.global("SUPER") {
            self.add(
                FindingLevel::Warning,
                "cannot-end-sessions",
                format!("{user} lacks {end}: transactions of other users can be waited for and not be ended"),
                format!("run `GRANT {grant} ON *.* TO {role}`"),
            );
        }
        Ok(())
    }

    async fn identity(&mut self) -> Result<(), Failure> {
        if gate::missing_tables(self.session, self.target).await? {
            return Ok(());
        }
        let Some(record) = gate::read(self.session, self.target, Lock::None).await? else {
            return Ok(());
        };
        if record.row.identity != self.facts.identity {
            let message = format!(
                "the gate row was written on {}, this is {}: a restored copy, a clone or a failover",
                record.row.identity, self.facts.identity
            );
            let level = match record.row.is_closed() {
                true => FindingLevel::Error,
                false => FindingLevel::Warning,
            };
            self.add(
                level,
                "identity-changed",
                message,
                "look at table lockkeeper_gate and decide",
            );
        }
        Ok(())
    }

    /// What the parent's statement does to the child's rows fires no trigger of the child.
    async fn foreign_keys(&mut self) -> Result<(), Failure> {
        let database = literal(&self.target.database);
        let keys = self
            .session
            .rows(&format!(
                "SELECT TABLE_NAME, CONSTRAINT_NAME, UNIQUE_CONSTRAINT_SCHEMA, REFERENCED_TABLE_NAME \
                 FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = {database} \
                 AND UNIQUE_CONSTRAINT_SCHEMA <> {database} \
                 AND (UPDATE_RULE NOT IN ('RESTRICT', 'NO ACTION') OR DELETE_RULE NOT IN ('RESTRICT', 'NO ACTION'))"
            ))
            .await?;
        for key in keys {
            let [table, constraint, schema, parent] = <[_; 4]>::try_from(key)
                .unwrap_or_default()
                .map(Option::unwrap_or_default);
            self.add(
                FindingLevel::Error,
                "incoming-foreign-key",
                format!(
                    "changes of {schema}.{parent} reach {table} through {constraint} and fire no trigger"
                ),
                format!(
                    "run `ALTER TABLE {} DROP FOREIGN KEY {}`, or move the parent into this database",
                    name(&table),
                    name(&constraint)
                ),
            );
        }
        Ok(())
    }

    async fn tables(&mut self) -> Result<(), Failure> {
        let database = literal(&self.target.database);
        let odd = self
            .session
            .rows(&format!(
                "SELECT TABLE_NAME, ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = {database} \
                 AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND NOT {IS_OWN} AND ENGINE <> 'InnoDB'"
            ))
            .await?;
        for row in odd {
            let [table, engine] = <[_; 2]>::try_from(row)
                .unwrap_or_default()
                .map(Option::unwrap_or_default);
            self.add(
                FindingLevel::Warning,
                "not-transactional",
                format!("table {table} uses {engine}: its rows are not rolled back when a migration fails"),
                format!("run `ALTER TABLE {} ENGINE = InnoDB`", name(&table)),
            );
        }
        let sequences = self
            .names(&format!(
                "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {database} AND TABLE_TYPE = 'SEQUENCE'"
            ))
            .await?;
        if !sequences.is_empty() {
            self.add(
                FindingLevel::Info,
                "sequence",
                format!(
                    "sequences can be moved on while the gate is closed: {}",
                    sequences.join(", ")
                ),
                "nothing to do unless a migration reads their values",
            );
        }
        self.add(
            FindingLevel::Info,
            "not-barred",
            "TRUNCATE and other DDL of applications fires no trigger and is not refused",
            "take DROP and ALTER from the applications' users",
        );
        Ok(())
    }

    async fn transactions(&mut self) -> Result<(), Failure> {
        match barrier::prepared(self.session).await {
            Ok(prepared) => {
                for xid in prepared {
                    self.add(
                        FindingLevel::Warning,
                        "prepared-transaction",
                        format!("prepared transaction {xid} keeps the barrier from being complete"),
                        format!("run `XA COMMIT '{xid}'` or `XA ROLLBACK '{xid}'`"),
                    );
                }
            }
            Err(failure) if failure.is_denied() => self.add(
                FindingLevel::Error,
                "cannot-see-prepared",
                "prepared transactions cannot be listed",
                "run `GRANT XA_RECOVER_ADMIN ON *.* TO` lockkeeper's role",
            ),
            Err(failure) => return Err(failure),
        }
        let long = self
            .names(&format!(
                "SELECT CONCAT(trx_mysql_thread_id, ' since ', trx_started) FROM information_schema.INNODB_TRX \
                 WHERE trx_mysql_thread_id NOT IN (0, CONNECTION_ID()) \
                 AND trx_started < NOW() - INTERVAL {LONG_TRANSACTION_S} SECOND"
            ))
            .await;
        let long = match long {
            Err(failure) if failure.is_denied() => Vec::new(),
            other => other?,
        };
        for transaction in long {
            let id = transaction.split(' ').next().unwrap_or_default().to_owned();
            self.add(
                FindingLevel::Warning,
                "long-transaction",
                format!("connection {transaction} has a transaction open"),
                format!("let it end, or run `KILL {id}`; the barrier waits for it and then ends it"),
            );
        }
        Ok(())
    }
}
