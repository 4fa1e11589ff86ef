//! Raising the barrier, and waiting out every writer that is older than it.

use std::collections::HashSet;
use std::time::Duration;

use sqlx::Connection;
use tokio::time::{Instant, sleep};

use super::barrier::{Barrier, Table};
use super::blockers::{self, Writer};
use super::hand::PgHand;
use super::session::{code, db_error, is_lock_failure, set_lock_timeout};
use super::watch::{Manner, Watch};
use crate::db::{BarrierReport, DbError, Observer};

/// Tables per transaction at the first attempt. Each holds a lock until the transaction ends.
const BATCH: usize = 50;

/// Wait for one lock at the first attempt. Below the server's deadlock time-out (1 s by default), so that a
/// writer that holds one table of a batch and wants another is not made a deadlock's victim.
const FIRST_LOCK_WAIT: Duration = Duration::from_millis(100);

/// How long a lock may take after those who hold it were ended.
const END_GRACE: Duration = Duration::from_secs(5);

/// Pause between two looks at the older transactions.
const DRAIN_POLL: Duration = Duration::from_millis(30);

/// Rounds of "install, drain, look for new tables". Each one needs a table that was made during the round before
/// by a transaction that began before the barrier, so more than a few mean that somebody makes tables for ever.
const ROUNDS_MAX: u32 = 20;

impl PgHand {
    pub(super) async fn raise(
        &mut self,
        patience: Duration,
        observer: &dyn Observer,
    ) -> Result<BarrierReport, DbError> {
        let deadline = Instant::now() + patience;
        let barrier = self.prepare_barrier().await?;
        let mut watch = Watch::new(&self.connector, &self.terms.executor, observer);
        // Writers that carry their epoch are waited for here, by one lock; the tables are then free of them.
        self.turn_epoch(self.row.gate_epoch, deadline, &mut watch).await?;
        let mut continued = true;
        for _ in 0..ROUNDS_MAX {
            let missing = barrier.missing(&mut self.session.conn, &self.names).await?;
            if missing.is_empty() {
                self.drain(deadline, &mut watch).await?;
                if barrier
                    .missing(&mut self.session.conn, &self.names)
                    .await?
                    .is_empty()
                {
                    return self.report(barrier, watch, continued).await;
                }
                continue;
            }
            continued = false;
            self.install_all(&barrier, missing, deadline, &mut watch).await?;
        }
        Err(DbError::TimedOut {
            what: "new tables to stop appearing".to_owned(),
            blockers: Vec::new(),
        })
    }

    async fn prepare_barrier(&mut self) -> Result<Barrier, DbError> {
        let mut tx = self.session.conn.begin().await.map_err(db_error)?;
        let row = self
            .terms
            .hold(&mut tx, &self.names, self.connector.settings.lock_timeout)
            .await?;
        if !row.is_closed() {
            return Err(DbError::Unsupported(format!(
                "the gate is open at {}: close it before its barrier is raised",
                row.opened
            )));
        }
        let barrier = Barrier::prepare(&mut tx, &self.names, row.gate_epoch).await?;
        tx.commit().await.map_err(db_error)?;
        self.row = row;
        Ok(barrier)
    }

    async fn report(
        &mut self,
        barrier: Barrier,
        watch: Watch<'_>,
        continued: bool,
    ) -> Result<BarrierReport, DbError> {
        let tables = barrier.tables(&mut self.session.conn, &self.names).await?;
        self.barrier = Some(barrier);
        Ok(BarrierReport {
            tables: tables.iter().map(Table::display).collect(),
            ended: watch.ended,
            continued,
        })
    }

    async fn install_all(
        &mut self,
        barrier: &Barrier,
        missing: Vec<Table>,
        deadline: Instant,
        watch: &mut Watch<'_>,
    ) -> Result<(), DbError> {
        let mut single = Vec::new();
        for batch in missing.chunks(BATCH) {
            let what = format!("locks on {} tables", batch.len());
            if !self
                .install(barrier, batch, FIRST_LOCK_WAIT, &what, Manner::Tell, watch)
                .await?
            {
                single.extend_from_slice(batch);
            }
        }
        // Every round gives each table that is left one try, twice as long as the one before: a wait that is
        // shorter than the application's overlapping transactions never wins.
        let mut wait = FIRST_LOCK_WAIT;
        while !single.is_empty() && Instant::now() < deadline {
            let mut left = Vec::new();
            for table in single {
                let wait = wait.min(deadline.saturating_duration_since(Instant::now()));
                let what = format!("lock on {}", table.display());
                let tables = std::slice::from_ref(&table);
                if !self
                    .install(barrier, tables, wait, &what, Manner::Tell, watch)
                    .await?
                {
                    left.push(table);
                }
            }
            single = left;
            wait *= 2;
        }
        for table in single {
            let what = format!("lock on {}", table.display());
            let tables = std::slice::from_ref(&table);
            if !self
                .install(barrier, tables, END_GRACE, &what, Manner::End, watch)
                .await?
            {
                return Err(DbError::TimedOut {
                    what,
                    blockers: watch.last_seen(),
                });
            }
        }
        Ok(())
    }

    /// One transaction that bars `tables`; false when a lock was not had.
    async fn install(
        &mut self,
        barrier: &Barrier,
        tables: &[Table],
        wait: Duration,
        what: &str,
        manner: Manner,
        watch: &mut Watch<'_>,
    ) -> Result<bool, DbError> {
        let row_wait = self.connector.settings.lock_timeout;
        let (terms, names, conn) = (&self.terms, &self.names, &mut self.session.conn);
        let work = async move {
            let mut tx = conn.begin().await.map_err(db_error)?;
            terms.hold(&mut tx, names, row_wait).await?;
            set_lock_timeout(&mut tx, wait).await?;
            barrier.install(&mut tx, names, tables).await?;
            tx.commit().await.map_err(db_error)
        };
        match watch.during(work, what, manner).await {
            Ok(()) => Ok(true),
            Err(error) if is_lock_failure(&error) => Ok(false),
            // Dropped since it was listed: the next look finds out.
            Err(error) if code(&error) == Some("42P01") && tables.len() == 1 => Ok(true),
            Err(error) if code(&error) == Some("42P01") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until no transaction that held an xid when the barrier stood is left: such a one could have made a
    /// table that this session cannot see yet, and commit it with rows in it.
    async fn drain(&mut self, deadline: Instant, watch: &mut Watch<'_>) -> Result<(), DbError> {
        const WHAT: &str = "transactions older than the barrier";
        let older: HashSet<String> = blockers::writers(&mut self.session.conn)
            .await?
            .into_iter()
            .map(|writer| writer.xid)
            .collect();
        let give_up = deadline.max(Instant::now()) + END_GRACE;
        loop {
            let writers = blockers::writers(&mut self.session.conn).await?;
            let left: Vec<Writer> = writers
                .into_iter()
                .filter(|writer| older.contains(&writer.xid))
                .collect();
            if left.is_empty() {
                return Ok(());
            }
            let named = left.iter().map(|writer| writer.found.blocker.clone()).collect();
            watch.tell(WHAT, named);
            let now = Instant::now();
            if now >= give_up {
                return Err(DbError::TimedOut {
                    what: WHAT.to_owned(),
                    blockers: watch.last_seen(),
                });
            }
            if now >= deadline {
                for writer in &left {
                    watch.end(&mut self.session.conn, &writer.found).await?;
                }
            }
            sleep(DRAIN_POLL).await;
        }
    }
}
