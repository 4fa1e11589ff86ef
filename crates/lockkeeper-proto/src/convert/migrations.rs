//! How a target's schema is changed.

use lockkeeper_core::spec::{
    Argv, DEFAULT_COMMAND_TIMEOUT, DEFAULT_DSN_ENV, DirectorySpec, ExternalSpec, MigrationsSpec, OneOrMany,
    PendingRule, StatusRule,
};

use super::{FieldError, duration, duration_message};
use crate::v1;
use crate::v1::status_rule::PendingWhen;

impl From<MigrationsSpec> for v1::MigrationSource {
    fn from(spec: MigrationsSpec) -> Self {
        match spec {
            MigrationsSpec::Directory(spec) => Self {
                layout: spec.layout,
                dir: spec.dir.to_vec(),
                ledger: spec.ledger,
                placeholders: spec.placeholders.into_iter().collect(),
                skip_programs: spec.skip_programs,
                allow_out_of_order: spec.allow_out_of_order,
                external: None,
            },
            MigrationsSpec::External(spec) => Self {
                external: Some((*spec).into()),
                ..Self::default()
            },
        }
    }
}

impl TryFrom<v1::MigrationSource> for MigrationsSpec {
    type Error = FieldError;

    fn try_from(message: v1::MigrationSource) -> Result<Self, FieldError> {
        match message.external {
            Some(_) if !message.dir.is_empty() => {
                Err(FieldError::new("external", "cannot be given beside dir"))
            }
            Some(external) => {
                let external = ExternalSpec::try_from(external).map_err(|e| e.within("external"))?;
                Ok(Self::External(Box::new(external)))
            }
            None if message.dir.is_empty() => Err(FieldError::new("dir", "is missing")),
            None => Ok(Self::Directory(DirectorySpec {
                layout: or(message.layout, "auto"),
                ledger: or(message.ledger, "own"),
                dir: OneOrMany::Many(message.dir),
                placeholders: message.placeholders.into_iter().collect(),
                skip_programs: message.skip_programs,
                allow_out_of_order: message.allow_out_of_order,
            })),
        }
    }
}

impl From<ExternalSpec> for v1::ExternalMigrator {
    fn from(spec: ExternalSpec) -> Self {
        Self {
            up: spec.up.into(),
            status: spec.status.into(),
            down: spec.down.map(Vec::from).unwrap_or_default(),
            rule: Some(spec.rule.into()),
            dsn_env: spec.dsn_env,
            env: spec.env.into_iter().collect(),
            working_dir: spec.working_dir.unwrap_or_default(),
            timeout: Some(duration_message(spec.timeout)),
            verify: spec.verify,
        }
    }
}

impl TryFrom<v1::ExternalMigrator> for ExternalSpec {
    type Error = FieldError;

    fn try_from(message: v1::ExternalMigrator) -> Result<Self, FieldError> {
        let rule = message
            .rule
            .ok_or_else(|| FieldError::new("rule", "is missing"))?;
        let down = match message.down.as_slice() {
            [] => None,
            _ => Some(argv("down", message.down)?),
        };
        let spec = Self {
            up: argv("up", message.up)?,
            status: argv("status", message.status)?,
            down,
            rule: rule.try_into().map_err(|e: FieldError| e.within("rule"))?,
            dsn_env: or(message.dsn_env, DEFAULT_DSN_ENV),
            env: message.env.into_iter().collect(),
            working_dir: (!message.working_dir.is_empty()).then_some(message.working_dir),
            timeout: duration("timeout", message.timeout, DEFAULT_COMMAND_TIMEOUT)?,
            verify: message.verify,
        };
        spec.checked().map_err(|why| FieldError::new("up", why))
    }
}

impl From<StatusRule> for v1::StatusRule {
    fn from(rule: StatusRule) -> Self {
        let pending = match rule.pending {
            PendingRule::Exit(code) => PendingWhen::PendingExit(code),
            PendingRule::Says(words) => PendingWhen::Pending(words),
            PendingRule::SaysNot(words) => PendingWhen::Applied(words),
        };
        Self {
            pending_when: Some(pending),
            version: rule.version.unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::StatusRule> for StatusRule {
    type Error = FieldError;

    fn try_from(message: v1::StatusRule) -> Result<Self, FieldError> {
        let pending = match message.pending_when {
            Some(PendingWhen::PendingExit(code)) => PendingRule::Exit(code),
            Some(PendingWhen::Pending(words)) => PendingRule::Says(words),
            Some(PendingWhen::Applied(words)) => PendingRule::SaysNot(words),
            None => {
                let why = "one of pending_exit, pending or applied is needed";
                return Err(FieldError::new("pending_when", why));
            }
        };
        Ok(Self {
            pending,
            version: (!message.version.is_empty()).then_some(message.version),
        })
    }
}

fn argv(field: &'static str, words: Vec<String>) -> Result<Argv, FieldError> {
    words
        .try_into()
        .map_err(|why: String| FieldError::new(field, why))
}

fn or(text: String, default: &str) -> String {
    if text.is_empty() { default.to_owned() } else { text }
}
