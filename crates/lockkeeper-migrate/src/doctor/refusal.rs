//! Why a server let nobody in, told by its codes.

use crate::db::{DbError, Finding, FindingLevel};

/// What a server's words hold, the finding's name, and what helps.
const REASONS: [(&[&str], &str, &str); 8] = [
    (
        &["unsupported startup parameter", "pooler"],
        "pooler",
        "give a DSN that reaches the server directly, beside the pooled one of the service: a pooler in transaction \
         mode hands one session to several clients",
    ),
    (
        &["(28P01)", "(28000)", "error 1045", "error 1698"],
        "login",
        "check user and password of the DSN; a password's special characters are written as %40 and so on; on \
         PostgreSQL pg_hba.conf decides who may come from where, on MariaDB and MySQL the host part of the user",
    ),
    (
        &["(3D000)", "error 1049"],
        "no-database",
        "check the database's name in the DSN, or make it: `lockkeeper migrate sql create`",
    ),
    (
        &["error 1044"],
        "no-access",
        "GRANT ALL ON `DATABASE`.* TO the DSN's user",
    ),
    (
        &[
            "(53300)",
            "error 1040",
            "too many connections",
            "too many clients",
        ],
        "too-many-connections",
        "end idle sessions, make the services' pools smaller, or raise max_connections",
    ),
    (
        &["(57P03)"],
        "starting",
        "wait: the server is starting up, shutting down or recovering",
    ),
    (
        &["certificate", "TLS", "tls", "SSL", "ssl"],
        "tls",
        "check sslmode and sslrootcert (PostgreSQL) or ssl-mode and ssl-ca (MariaDB, MySQL) in the DSN, and the name \
         and dates in the server's certificate",
    ),
    (
        &["no answer within"],
        "no-answer",
        "something accepts the connection and does not speak the database's protocol, or is overloaded: check host \
         and port",
    ),
];

/// The finding for an error that ended a step.
pub(super) fn finding(error: &DbError) -> Finding {
    let (code, remedy) = told(error);
    Finding {
        level: FindingLevel::Error,
        code,
        message: error.to_string(),
        remedy,
    }
}

fn told(error: &DbError) -> (String, String) {
    let known = |code: &str, remedy: &str| (code.to_owned(), remedy.to_owned());
    match error {
        DbError::Unreachable { reason: text, .. }
        | DbError::Unsupported(text)
        | DbError::ConnectionLost(text) => {
            let reason = REASONS
                .iter()
                .find(|(words, _, _)| words.iter().any(|word| text.contains(word)));
            match reason {
                Some((_, code, remedy)) => known(code, remedy),
                None => known("unreachable", "look into the server's log at this moment"),
            }
        }
        DbError::Permission { remedy, .. } => known("permission", remedy),
        DbError::ForeignTable { .. } => known(
            "foreign-table-name",
            "use the lockkeeper release that made the table, or rename a table that carries lockkeeper's name",
        ),
        DbError::NewerFormat { .. } => known(
            "newer-format",
            "use the lockkeeper release that made the tables, or a newer one",
        ),
        DbError::OtherBook { .. } => known(
            "other-ledger",
            "name the ledger that keeps the history with --ledger",
        ),
        DbError::TimedOut { .. } => known("timed-out", "end what is named, or wait for it"),
        DbError::IdentityChanged { .. } => known(
            "identity-changed",
            "if this is a restored or cloned copy: `lockkeeper doctor --fix`",
        ),
        DbError::Superseded { .. } | DbError::EpochBehind { .. } | DbError::Server { .. } => {
            known("refused", "look into the server's log at this moment")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_words_lead_to_the_finding_that_helps() {
        let of = |reason: &str| {
            let place = "postgres://h/d".to_owned();
            let reason = reason.to_owned();
            finding(&DbError::Unreachable { place, reason }).code
        };
        assert_eq!(of("password authentication failed (28P01)"), "login");
        assert_eq!(of("Access denied for user (error 1045, 28000)"), "login");
        assert_eq!(of("database \"x\" does not exist (3D000)"), "no-database");
        assert_eq!(of("unsupported startup parameter: options (08P01)"), "pooler");
        assert_eq!(of("invalid peer certificate: Expired"), "tls");
        assert_eq!(of("no answer within 10.0 s"), "no-answer");
        assert_eq!(of("strange"), "unreachable");
    }
}
