//! A target whose migrations are another migrator's commands. Around them stands what stands around files: the fence, a
//! time limit, verification, rollback, and an end that is confirmed.
//!
//! What a command came to is never taken from its exit code alone: the status command tells, once the last session of
//! the migrator's login is gone.

use std::time::Duration;

use lockkeeper_core::rollout::{Damage, Event, Goal};
use lockkeeper_core::spec::Argv;
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::db::{FindingLevel, Guest, VerifyOutcome};
use lockkeeper_migrate::dsn;
use lockkeeper_migrate::external::{Ended, Left, RunError, Status};
use lockkeeper_migrate::source::VerifyScript;
use tracing::warn;

use super::{Step, TAKE_PATIENCE, TargetDriver, Trouble, needs_person};
use crate::leader::access::External;
use crate::leader::external::Versions;

/// Shortest time for barring the tables that a migrator has made.
const BAR_AGAIN_MIN: Duration = Duration::from_secs(5);

/// How long reverting may take at least, as for files.
const REVERT_LIMIT_MIN: Duration = Duration::from_secs(15 * 60);

/// Most runs of the down command in one rollback: each must change the version.
const DOWNS_MAX: u32 = 100;

/// How a command's run looks from outside.
struct Ran {
    ended: Result<Ended, RunError>,
}

impl TargetDriver {
    pub(super) async fn plan_external(&mut self) -> Step<Event> {
        let findings = self.database()?.guest_findings().await;
        let findings = findings.map_err(|e| self.unreachable(&e.to_string()))?;
        let errors: Vec<String> = findings
            .iter()
            .filter(|f| f.level == FindingLevel::Error)
            .map(|f| format!("{} ({}); {}", f.message, f.code, f.remedy))
            .collect();
        if !errors.is_empty() {
            return Ok(Event::PreflightRefused(errors.join("; ")));
        }
        let to = match self.spec.to.as_str() {
            "latest" => None,
            version => Some(SchemaVersion::from(version)),
        };
        if to.is_none() && self.external()?.spec.up.asks_for_version() {
            let why = "the command up names {to}: create the rollout with a version instead of latest";
            return Ok(Event::PreflightRefused(why.to_owned()));
        }
        let status = match self.status().await? {
            Ok(status) => status,
            Err(why) => return Ok(Event::PreflightRefused(why)),
        };
        let reached = self.external()?.is_at(&status, to.as_ref());
        if let (Some(to), Left::Nothing, false) = (&to, status.left, reached) {
            let at = status
                .version
                .map_or_else(|| "no version".to_owned(), |v| v.to_string());
            return Ok(Event::PreflightRefused(format!(
                "the migrator has nothing pending, and the target is at {at}, not at {to}"
            )));
        }
        let to = to.or_else(|| status.version.clone().filter(|_| reached));
        Ok(Event::PreflightPassed {
            from: status.version,
            to,
            pending: usize::from(!reached),
        })
    }

    pub(super) async fn migrate_external(&mut self) -> Step<Event> {
        let started = tokio::time::Instant::now();
        self.stand().await?;
        let before = self.status_or_hold().await?;
        let to = self.progress.record.target.to.clone();
        if self.external()?.is_at(&before, to.as_ref()) {
            return self.arrived(before, started).await;
        }
        self.leader
            .waits
            .next(self.name(), "verify, then open", Some(self.budget_end()));
        let schema = self.hand()?.schema().await.map_err(needs_person)?;
        let up = self.external()?.spec.up.clone();
        let ran = self.run_as_guest(&up, self.budget_left()).await?;
        let after = self.status_or_hold().await?;
        if self.external()?.is_at(&after, to.as_ref()) {
            return self.arrived(after, started).await;
        }
        let reason = ran.reason("up");
        warn!(target = %self.name(), reason, "external migrator failed");
        let changed =
            after.version != before.version || self.hand()?.schema().await.map_err(needs_person)? != schema;
        let external = self.external()?;
        // Between versions nobody knows the way back; from one version to another `down` does.
        let moved = external.spec.down.is_some() && after.version != before.version;
        let damage = if !changed || moved {
            Damage::Clean
        } else {
            Damage::Unclear
        };
        Ok(Event::MigrationFailed { damage, reason })
    }

    /// The new version is there: what the status command calls it is what will be opened.
    async fn arrived(&mut self, status: Status, started: tokio::time::Instant) -> Step<Event> {
        let mut record = self.progress.record.clone();
        record.migrate_time = Some(started.elapsed());
        record.target.to = record.target.to.or(status.version);
        self.write(record, Vec::new()).await?;
        Ok(Event::Migrated)
    }

    pub(super) async fn revert_external(&mut self) -> Step<Event> {
        self.stand().await?;
        self.leader
            .waits
            .next(self.name(), "verify the old version, then open it", None);
        let from = self.progress.record.target.from.clone();
        let mut at = self.status_or_hold().await?.version;
        let failed = |why: String| Ok(Event::RevertFailed(format!("cannot roll back: {why}")));
        let deadline = tokio::time::Instant::now() + self.spec.budget.max(REVERT_LIMIT_MIN);
        for _ in 0..DOWNS_MAX {
            if at == from {
                return Ok(Event::Reverted);
            }
            let Some(down) = self.external()?.spec.down.clone() else {
                return failed("no command down is declared".to_owned());
            };
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let ran = self.run_as_guest(&down, left).await?;
            let now = self.status_or_hold().await?.version;
            if now == at {
                return failed(ran.reason("down"));
            }
            at = now;
        }
        failed(format!("not done after {DOWNS_MAX} runs of the command down"))
    }

    /// Status and verify scripts. Gives the first failure.
    pub(super) async fn check_external(&mut self, goal: Goal) -> Step<Option<String>> {
        let status = match self.status().await? {
            Ok(status) => status,
            Err(why) => return Ok(Some(why)),
        };
        let expected = self.version_of(goal);
        let external = self.external()?;
        let as_expected = match goal {
            Goal::New => external.is_at(&status, expected.as_ref()),
            Goal::Unchanged | Goal::Restored if external.rule.tells_version() => status.version == expected,
            Goal::Unchanged | Goal::Restored => status.left == Left::Something,
        };
        if !as_expected {
            let text =
                |v: Option<&SchemaVersion>| v.map_or_else(|| "no version".to_owned(), ToString::to_string);
            let (at, expected) = (text(status.version.as_ref()), text(expected.as_ref()));
            let left = match status.left {
                Left::Something => "something pending",
                Left::Nothing => "nothing pending",
            };
            return Ok(Some(format!(
                "the status command says {at}, {left}; expected is {expected}"
            )));
        }
        let scripts = match goal {
            Goal::New => external.verify.clone(),
            Goal::Unchanged | Goal::Restored => Vec::new(),
        };
        self.verify_scripts(&scripts).await
    }

    async fn verify_scripts(&mut self, scripts: &[VerifyScript]) -> Step<Option<String>> {
        for script in scripts {
            let outcome = self
                .hand()?
                .verify(&script.statements)
                .await
                .map_err(needs_person)?;
            if let VerifyOutcome::Failed(why) = outcome {
                return Ok(Some(format!("verify with {}: {why}", script.path.display())));
            }
        }
        Ok(None)
    }

    /// The version that the status command tells; none where it fails.
    pub(super) async fn external_version(&self) -> Step<Option<SchemaVersion>> {
        Ok(self.status().await?.ok().and_then(|status| status.version))
    }

    async fn status_or_hold(&self) -> Step<Status> {
        let status = self.status().await?;
        status.map_err(|why| Trouble::Event(Event::NeedsPerson(why)))
    }

    /// What the status command says. What is wrong with it comes as text.
    async fn status(&self) -> Step<Result<Status, String>> {
        Ok(self.external()?.status(&self.versions()).await)
    }

    fn versions(&self) -> Versions {
        let target = &self.progress.record.target;
        Versions {
            from: target.from.clone(),
            to: target.to.clone(),
        }
    }

    /// Runs a command behind the barrier, under a login of its own, and comes back when its processes and sessions are
    /// gone and the tables that it has made are barred.
    async fn run_as_guest(&mut self, argv: &Argv, left: Duration) -> Step<Ran> {
        let guest = self.hand()?.admit_guest().await.map_err(needs_person)?;
        let ended = self.run_command(argv, &guest, left).await;
        let sessions = self
            .hand()?
            .end_guests(TAKE_PATIENCE)
            .await
            .map_err(needs_person)?;
        let mut record = self.progress.record.clone();
        record.ended_sessions.extend(sessions);
        let patience = self.budget_left().max(BAR_AGAIN_MIN);
        let Self { hand, observer, .. } = self;
        if let Some(hand) = hand.as_mut() {
            hand.raise_barrier(patience, observer)
                .await
                .map_err(needs_person)?;
        }
        self.write(record, Vec::new()).await?;
        Ok(Ran { ended: ended? })
    }

    async fn run_command(&self, argv: &Argv, guest: &Guest, left: Duration) -> Step<Result<Ended, RunError>> {
        let external = self.external()?;
        let login = dsn::with_login(&external.dsn, &guest.user, &guest.password);
        let call = external.call(argv, &self.versions());
        let call = call.dsn(&external.spec.dsn_env, login, Some(&guest.password));
        let limit = external.spec.timeout.min(left);
        Ok(call.run(limit, &|line| self.observer.output(line)).await)
    }

    fn external(&self) -> Step<&External> {
        self.external
            .as_ref()
            .ok_or_else(|| Trouble::Event(Event::NeedsPerson("no external migrator".to_owned())))
    }
}

impl Ran {
    /// Why the command was of no use, for people.
    fn reason(&self, command: &str) -> String {
        match &self.ended {
            Err(error) => format!("the command {command}: {error}"),
            Ok(ended) if ended.timed_out => {
                format!("the command {command} did not end in time and was ended")
            }
            Ok(ended) => {
                let code = ended.code.map_or_else(
                    || "by a signal".to_owned(),
                    |code| format!("with exit code {code}"),
                );
                let last = ended.printed.lines().rev().find(|line| !line.trim().is_empty());
                let last = last.unwrap_or("it printed nothing");
                format!("the command {command} ended {code}: {last}")
            }
        }
    }
}
