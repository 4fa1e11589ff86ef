//! How a target's schema is changed: by files that the coordinators read, or by another migrator's commands.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::OneOrMany;

/// Default of [`ExternalSpec::dsn_env`].
pub const DEFAULT_DSN_ENV: &str = "DATABASE_URL";

/// Default of [`ExternalSpec::timeout`]: a fence's budget ends most commands earlier.
pub const DEFAULT_COMMAND_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// `migrations:` of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub enum MigrationsSpec {
    /// Files that coordinators read and run.
    Directory(DirectorySpec),
    /// Commands of another migrator, which coordinators run.
    External(Box<ExternalSpec>),
}

/// Where a coordinator finds migrations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectorySpec {
    /// Name of the layout, or `auto`.
    pub layout: String,
    /// Where the target records what is applied: `own`, or the name of the tool whose state table is kept.
    pub ledger: String,
    /// One directory, or several.
    pub dir: OneOrMany,
    /// Values for Flyway's placeholders, by name.
    pub placeholders: BTreeMap<String, String>,
    /// Leave out migrations in a programming language, and Flyway's callbacks, instead of refusing them.
    pub skip_programs: bool,
    /// Apply pending migrations that lie below an applied one, instead of refusing them.
    pub allow_out_of_order: bool,
}

/// A migrator that brings its own program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalSpec {
    /// Applies what is pending.
    pub up: Argv,
    /// Says where the database is; changes nothing.
    pub status: Argv,
    /// Reverts the last version. Without it a failed rollout cannot roll back.
    pub down: Option<Argv>,
    /// How `status` is read.
    pub rule: StatusRule,
    /// The environment variable that holds the DSN.
    pub dsn_env: String,
    /// More variables.
    pub env: BTreeMap<String, String>,
    /// The folder that the commands run in, on the coordinators.
    pub working_dir: Option<String>,
    /// Longest time of one command.
    pub timeout: Duration,
    /// Directories with a folder `verify` of scripts that must pass before the gate opens.
    pub verify: Vec<String>,
}

/// A program and its arguments, not empty. `{from}` and `{to}` stand for the rollout's versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Argv(Vec<String>);

impl Argv {
    /// The words.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.0
    }

    /// Whether the rollout's version must be known beforehand.
    #[must_use]
    pub fn asks_for_version(&self) -> bool {
        self.0.iter().any(|word| word.contains("{to}"))
    }
}

impl TryFrom<Vec<String>> for Argv {
    type Error = String;

    fn try_from(words: Vec<String>) -> Result<Self, String> {
        match words.first() {
            Some(program) if !program.is_empty() => Ok(Self(words)),
            Some(_) | None => Err("a command needs a program, as [PROGRAM, ARGUMENT, …]".to_owned()),
        }
    }
}

impl From<Argv> for Vec<String> {
    fn from(argv: Argv) -> Self {
        argv.0
    }
}

/// How what a status command prints is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RuleFields", into = "RuleFields")]
pub struct StatusRule {
    /// Whether anything is pending.
    pub pending: PendingRule,
    /// A regular expression whose one group is the version; the last match counts.
    pub version: Option<String>,
}

/// When something is pending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PendingRule {
    /// The command ends with this code (and with 0 when nothing is).
    Exit(i32),
    /// The output matches.
    Says(String),
    /// The output does not match.
    SaysNot(String),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending_exit: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    applied: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
}

impl TryFrom<RuleFields> for StatusRule {
    type Error = String;

    fn try_from(fields: RuleFields) -> Result<Self, String> {
        let pending = match (fields.pending_exit, fields.pending, fields.applied) {
            (Some(0), None, None) => {
                return Err("rule.pending_exit: 0 means that nothing is pending".to_owned());
            }
            (Some(code), None, None) => PendingRule::Exit(code),
            (None, Some(words), None) => PendingRule::Says(words),
            (None, None, Some(words)) => PendingRule::SaysNot(words),
            _ => return Err("rule: exactly one of pending_exit, pending or applied is needed".to_owned()),
        };
        Ok(Self {
            pending,
            version: fields.version,
        })
    }
}

impl From<StatusRule> for RuleFields {
    fn from(rule: StatusRule) -> Self {
        let fields = Self {
            version: rule.version,
            ..Self::default()
        };
        match rule.pending {
            PendingRule::Exit(code) => Self {
                pending_exit: Some(code),
                ..fields
            },
            PendingRule::Says(words) => Self {
                pending: Some(words),
                ..fields
            },
            PendingRule::SaysNot(words) => Self {
                applied: Some(words),
                ..fields
            },
        }
    }
}

/// The file's form: one level, so that an error names its line.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layout: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ledger: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dir: Option<OneOrMany>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    placeholders: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "super::is_false")]
    skip_programs: bool,
    #[serde(default, skip_serializing_if = "super::is_false")]
    allow_out_of_order: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    up: Option<Argv>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<Argv>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    down: Option<Argv>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<StatusRule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dsn_env: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    working_dir: Option<String>,
    #[serde(default, with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    timeout: Option<Duration>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    verify: Vec<String>,
}

impl TryFrom<Fields> for MigrationsSpec {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        match (&fields.dir, &fields.up) {
            (Some(_), None) => fields.directory().map(Self::Directory),
            (None, Some(_)) => Ok(Self::External(Box::new(fields.external()?))),
            (Some(_), Some(_)) => Err("either dir (files) or up (another migrator) can be given".to_owned()),
            (None, None) => Err("dir (files) or up (another migrator's command) is needed".to_owned()),
        }
    }
}

impl Fields {
    fn directory(self) -> Result<DirectorySpec, String> {
        let external = self.status.is_some()
            || self.down.is_some()
            || self.rule.is_some()
            || self.dsn_env.is_some()
            || self.working_dir.is_some()
            || self.timeout.is_some()
            || !self.env.is_empty()
            || !self.verify.is_empty();
        if external {
            return Err(
                "status, down, rule, dsn_env, env, working_dir, timeout and verify go with up, not with dir"
                    .to_owned(),
            );
        }
        Ok(DirectorySpec {
            layout: self.layout.unwrap_or_else(|| "auto".to_owned()),
            ledger: self.ledger.unwrap_or_else(|| "own".to_owned()),
            dir: self.dir.unwrap_or(OneOrMany::Many(Vec::new())),
            placeholders: self.placeholders,
            skip_programs: self.skip_programs,
            allow_out_of_order: self.allow_out_of_order,
        })
    }

    fn external(self) -> Result<ExternalSpec, String> {
        let directory = self.layout.is_some()
            || self.ledger.is_some()
            || self.skip_programs
            || self.allow_out_of_order
            || !self.placeholders.is_empty();
        if directory {
            return Err(
                "layout, ledger, placeholders, skip_programs and allow_out_of_order go with dir, not with up"
                    .to_owned(),
            );
        }
        ExternalSpec {
            up: self.up.ok_or("up is missing")?,
            status: self
                .status
                .ok_or("status is missing: without it nobody can tell what up came to")?,
            down: self.down,
            rule: self.rule.ok_or("rule is missing: it says how status is read")?,
            dsn_env: self.dsn_env.unwrap_or_else(|| DEFAULT_DSN_ENV.to_owned()),
            env: self.env,
            working_dir: self.working_dir,
            timeout: self.timeout.unwrap_or(DEFAULT_COMMAND_TIMEOUT),
            verify: self.verify,
        }
        .checked()
    }
}

impl ExternalSpec {
    /// # Errors
    /// Parts that do not fit together.
    pub fn checked(self) -> Result<Self, String> {
        if self.down.is_some() && self.rule.version.is_none() {
            return Err("down needs rule.version: it is run until the old version is back".to_owned());
        }
        if self.env.contains_key(&self.dsn_env) {
            return Err(format!("env.{} is where the DSN goes; see dsn_env", self.dsn_env));
        }
        if self.timeout.is_zero() {
            return Err("timeout must be longer than 0".to_owned());
        }
        Ok(self)
    }
}

impl From<MigrationsSpec> for Fields {
    fn from(spec: MigrationsSpec) -> Self {
        match spec {
            MigrationsSpec::Directory(spec) => Self {
                layout: Some(spec.layout),
                ledger: (spec.ledger != "own").then_some(spec.ledger),
                dir: Some(spec.dir),
                placeholders: spec.placeholders,
                skip_programs: spec.skip_programs,
                allow_out_of_order: spec.allow_out_of_order,
                ..Self::default()
            },
            MigrationsSpec::External(spec) => Self {
                up: Some(spec.up),
                status: Some(spec.status),
                down: spec.down,
                rule: Some(spec.rule),
                dsn_env: Some(spec.dsn_env),
                env: spec.env,
                working_dir: spec.working_dir,
                timeout: Some(spec.timeout),
                verify: spec.verify,
                ..Self::default()
            },
        }
    }
}

impl MigrationsSpec {
    /// The files, if it is files.
    #[must_use]
    pub fn directory(&self) -> Option<&DirectorySpec> {
        match self {
            Self::Directory(spec) => Some(spec),
            Self::External(_) => None,
        }
    }

    /// The other migrator, if it is one.
    #[must_use]
    pub fn external(&self) -> Option<&ExternalSpec> {
        match self {
            Self::Directory(_) => None,
            Self::External(spec) => Some(spec),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn parsed(value: Value) -> Result<MigrationsSpec, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    fn dbmate() -> Value {
        json!({"up": ["dbmate", "up"], "status": ["dbmate", "status"], "rule": {"pending": "^Pending: [1-9]"}})
    }

    fn with(key: &str, value: Value) -> Value {
        let mut all = dbmate();
        all[key] = value;
        all
    }

    #[test]
    fn both_forms_come_back_as_they_were() {
        for form in [
            dbmate(),
            json!({"dir": "m"}),
            json!({"dir": ["a", "b"], "ledger": "sqlx"}),
        ] {
            let spec = parsed(form).unwrap();
            assert_eq!(parsed(serde_json::to_value(&spec).unwrap()).unwrap(), spec);
        }
        let external = parsed(dbmate()).unwrap();
        assert_eq!(external.external().unwrap().dsn_env, "DATABASE_URL");
    }

    #[test]
    fn forms_that_make_no_sense_say_why() {
        let cases = [
            (with("dir", json!("m")), "either dir"),
            (json!({}), "is needed"),
            (with("up", json!([])), "needs a program"),
            (with("layout", json!("pop")), "go with dir"),
            (json!({"dir": "m", "dsn_env": "X"}), "go with up"),
            (with("rule", json!({})), "exactly one of"),
            (
                with("rule", json!({"pending": "a", "applied": "b"})),
                "exactly one of",
            ),
            (with("rule", json!({"pending_exit": 0})), "0 means"),
            (
                with("down", json!(["dbmate", "rollback"])),
                "down needs rule.version",
            ),
            (with("env", json!({"DATABASE_URL": "x"})), "is where the DSN goes"),
            (with("timeout", json!("0s")), "longer than 0"),
            (with("upp", json!(1)), "unknown field"),
            (
                json!({"up": ["x"], "rule": {"pending": "a"}}),
                "status is missing",
            ),
        ];
        for (form, why) in cases {
            let error = parsed(form.clone()).unwrap_err();
            assert!(error.contains(why), "{form}: {error}");
        }
    }
}
