//! Findings that several dialects share.

use std::time::Duration;

use super::{Finding, FindingLevel};

/// Clocks that differ by more than this make ages and leases hard to read; nothing safe rests on them.
const CLOCK_SKEW_MAX_MS: u64 = 2_000;

/// Sessions that name themselves so are migrators. Lower case.
const MIGRATORS: [&str; 12] = [
    "flyway",
    "liquibase",
    "golang-migrate",
    "goose",
    "dbmate",
    "atlas",
    "alembic",
    "sqlx-cli",
    "refinery",
    "diesel",
    "kratos",
    "lockkeeper",
];

/// One finding.
pub(crate) fn finding(
    level: FindingLevel,
    code: &str,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    Finding {
        level,
        code: code.to_owned(),
        message: message.into(),
        remedy: remedy.into(),
    }
}

/// Whether a session's application name is a migrator's.
pub(crate) fn is_migrator(application: &str) -> bool {
    let application = application.to_lowercase();
    MIGRATORS.iter().any(|name| application.contains(name))
}

/// The server's clock against this machine's: both in milliseconds since 1970; the question took `round_trip`.
pub(crate) fn clock(server_ms: i64, round_trip: Duration) -> Option<Finding> {
    let here = jiff::Timestamp::now().as_millisecond();
    let skew = here
        .abs_diff(server_ms)
        .saturating_sub(round_trip.as_millis() as u64);
    (skew > CLOCK_SKEW_MAX_MS).then(|| {
        let seconds = skew / 1000;
        let which = if here > server_ms { "behind" } else { "ahead of" };
        finding(
            FindingLevel::Warning,
            "clock-skew",
            format!("the server's clock is {seconds} s {which} this machine's"),
            "let both follow a time server; ages of backups and sessions are the server's",
        )
    })
}

/// Nearly no session is left.
pub(crate) fn connections(used: u64, limit: u64) -> Option<Finding> {
    (limit > 0 && used * 10 >= limit * 9).then(|| {
        finding(
            FindingLevel::Warning,
            "connections",
            format!("{used} of {limit} sessions are in use: a migration needs two, and may get none"),
            "end idle sessions, make the services' pools smaller, or raise max_connections",
        )
    })
}

/// golang-migrate's one row says that a migration was cut off.
pub(crate) fn dirty(version: &str) -> Finding {
    finding(
        FindingLevel::Error,
        "golang-migrate-dirty",
        format!(
            "golang-migrate's schema_migrations is dirty at version {version}: that migration was cut off"
        ),
        format!(
            "look which of its statements took effect, finish or take them back by hand, then run \
             `migrate force {version}` (or the version before it): UPDATE schema_migrations SET dirty = false"
        ),
    )
}

/// Liquibase's lock row never expires.
pub(crate) fn liquibase_lock(by: &str, since: &str) -> Finding {
    finding(
        FindingLevel::Warning,
        "liquibase-lock",
        format!("Liquibase's lock is held by {by} since {since}"),
        "if that process is gone: UPDATE DATABASECHANGELOGLOCK SET LOCKED = FALSE, LOCKGRANTED = NULL, \
         LOCKEDBY = NULL WHERE ID = 1",
    )
}

/// Barriers whose fence has been opened.
pub(crate) fn left_over_barrier(objects: u64) -> Finding {
    finding(
        FindingLevel::Warning,
        "left-over-barrier",
        format!(
            "{objects} triggers of fences that were opened are left; they refuse nobody, and cost a little"
        ),
        "lockkeeper doctor --fix",
    )
}

/// What is sent to a server elsewhere can be read on the way.
pub(crate) fn plaintext() -> Finding {
    finding(
        FindingLevel::Warning,
        "plaintext",
        "the connection is not encrypted",
        "add sslmode=verify-full (PostgreSQL) or ssl-mode=verify-identity (MariaDB, MySQL) to the DSN",
    )
}

/// A registered executor that lives.
pub(crate) fn executor(who: &str, session: &str) -> Finding {
    finding(
        FindingLevel::Info,
        "executor-alive",
        format!("a migrator is at work here: {who}, session {session}"),
        "wait for it; `up` does",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_difference_of_clocks_is_told() {
        let now = jiff::Timestamp::now().as_millisecond();
        assert_eq!(clock(now - 1_000, Duration::ZERO), None);
        let behind = clock(now - 90_000, Duration::from_millis(50)).unwrap();
        assert!(
            behind.message.contains("s behind this machine's"),
            "{}",
            behind.message
        );
        assert!(
            clock(now + 90_000, Duration::ZERO)
                .unwrap()
                .message
                .contains("ahead of")
        );
    }

    #[test]
    fn the_last_sessions_are_told() {
        assert_eq!(connections(89, 100), None);
        assert!(connections(90, 100).is_some());
    }
}
