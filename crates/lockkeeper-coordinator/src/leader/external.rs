//! A target's external migrator: its commands as they are run, and what its status says.

use std::path::PathBuf;
use std::time::Duration;

use lockkeeper_core::spec::Argv;
use lockkeeper_core::version::SchemaVersion;
use lockkeeper_migrate::external::{Call, Left, Status};

use crate::leader::access::External;

/// How long the status command may take, whatever the command's own limit.
const STATUS_LIMIT: Duration = Duration::from_secs(30);

/// What stands for `{from}` and `{to}` in arguments.
#[derive(Debug, Clone, Default)]
pub struct Versions {
    /// The version before the rollout.
    pub from: Option<SchemaVersion>,
    /// The version to reach.
    pub to: Option<SchemaVersion>,
}

impl External {
    /// A call of one of its commands; the DSN is still to be set.
    #[must_use]
    pub fn call(&self, argv: &Argv, versions: &Versions) -> Call {
        let text = |version: &Option<SchemaVersion>| {
            let version = version.as_ref().map(SchemaVersion::as_str);
            version.unwrap_or_default().to_owned()
        };
        let (from, to) = (text(&versions.from), text(&versions.to));
        let filled = |word: &String| word.replace("{from}", &from).replace("{to}", &to);
        let words: Vec<String> = argv.words().iter().map(filled).collect();
        Call::new(&words)
            .environment(&self.spec.env)
            .working_dir(self.spec.working_dir.as_ref().map(PathBuf::from))
    }

    /// Asks the status command, under the target's own login: it only reads.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub async fn status(&self, versions: &Versions) -> Result<Status, String> {
        let call = self.call(&self.spec.status, versions);
        let call = call.dsn(&self.spec.dsn_env, self.dsn.clone(), self.password.as_deref());
        let limit = self.spec.timeout.min(STATUS_LIMIT);
        match call.run(limit, &|_| {}).await {
            Ok(ended) if ended.timed_out => Err(format!(
                "the status command did not end within {} s",
                limit.as_secs_f64()
            )),
            Ok(ended) => self
                .rule
                .read(ended.code, &ended.printed)
                .map_err(|error| error.to_string()),
            Err(error) => Err(format!("the status command: {error}")),
        }
    }

    /// Whether the target is where the rollout wants it. A version that the rule cannot tell is taken on trust when
    /// nothing is pending.
    #[must_use]
    pub fn is_at(&self, status: &Status, to: Option<&SchemaVersion>) -> bool {
        match to {
            Some(to) if self.rule.tells_version() => status.version.as_ref() == Some(to),
            Some(_) | None => status.left == Left::Nothing,
        }
    }
}
