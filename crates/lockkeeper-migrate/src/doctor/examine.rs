//! From the DSN's form to the database's health, as far as each step lets the next one be.

use super::diagnosis::{Diagnosis, Outcome};
use super::{reach, refusal};
use crate::db::{self, Database, DatabaseOptions, DbError, Finding, FindingLevel};
use crate::dsn::Dsn;

/// Looks at everything, changes nothing.
pub async fn examine(dsn: &str, options: DatabaseOptions) -> Diagnosis {
    let mut diagnosis = Diagnosis {
        target: String::new(),
        dialect: None,
        server: None,
        checks: Vec::new(),
        findings: Vec::new(),
    };
    match Dsn::parse(dsn) {
        Ok(dsn) => {
            diagnosis.add("dsn", Vec::new());
            diagnosis.target = dsn.place();
            diagnosis.dialect = Some(dsn.dialect().to_string());
            look(&dsn, options, &mut diagnosis).await;
        }
        Err(error) => {
            let remedy = "postgres://USER:PASSWORD@HOST:PORT/DATABASE, mysql://USER:PASSWORD@HOST:PORT/DATABASE or \
                          sqlite://PATH; characters such as @ : / ? # % in a password are written as %40 and so on";
            diagnosis.add("dsn", vec![error_of("dsn-form", error.to_string(), remedy)]);
            diagnosis.skip(&["login", "fence", "health"]);
        }
    }
    diagnosis
        .findings
        .sort_by_key(|finding| std::cmp::Reverse(finding.level));
    diagnosis
}

async fn look(dsn: &Dsn, options: DatabaseOptions, diagnosis: &mut Diagnosis) {
    for (name, findings) in reach::reach(dsn, options.connect_timeout).await {
        if diagnosis.add(name, findings) == Outcome::Failed {
            return diagnosis.skip(&["login", "fence", "health"]);
        }
    }
    let database = db::open(dsn, options.clone());
    let findings = login(&*database, diagnosis).await;
    if diagnosis.add("login", findings) == Outcome::Failed {
        return diagnosis.skip(&["fence", "health"]);
    }
    let fence = found(database.preflight().await);
    diagnosis.add("fence", fence);
    let health = found(db::upkeep(dsn, options).examine().await);
    diagnosis.add("health", health);
}

async fn login(database: &dyn Database, diagnosis: &mut Diagnosis) -> Vec<Finding> {
    match database.inspect().await {
        Ok(inspection) => {
            diagnosis.server = Some(inspection.server);
            other_ledgers(&inspection.other_ledgers, inspection.ledger.is_empty())
        }
        Err(error) => vec![refusal::finding(&error)],
    }
}

fn other_ledgers(tables: &[String], empty: bool) -> Vec<Finding> {
    if !empty || tables.is_empty() {
        return Vec::new();
    }
    vec![Finding {
        level: FindingLevel::Warning,
        code: "other-ledger".to_owned(),
        message: format!(
            "another migrator has migrated this database: {}",
            tables.join(", ")
        ),
        remedy: "carry on from its history instead of beginning anew: see docs/migrations.md".to_owned(),
    }]
}

/// A question that could not be asked is a finding too.
fn found(findings: Result<Vec<Finding>, DbError>) -> Vec<Finding> {
    findings.unwrap_or_else(|error| vec![refusal::finding(&error)])
}

pub(super) fn error_of(code: &str, message: String, remedy: &str) -> Finding {
    Finding {
        level: FindingLevel::Error,
        code: code.to_owned(),
        message,
        remedy: remedy.to_owned(),
    }
}
