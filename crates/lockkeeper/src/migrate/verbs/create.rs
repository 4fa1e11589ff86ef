//! `create`: the database, its user, and what that user may do.

use std::path::PathBuf;

use clap::Args;
use lockkeeper_migrate::db::create::{self, Done, Effect, NewUser, Outcome, Password, Setup};
use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::dsn::Dsn;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::migrate::failure;
use crate::migrate::flags::{ChangeArgs, Common, DsnArg, Intent};
use crate::migrate::job::Missing;
use crate::output;

#[derive(Debug, Args)]
#[command(
    after_help = "The DSN names the database that is to be and the login of an administrator, for example \
                  postgres://postgres@host/kratos. Run again it changes nothing: what is there stays as it is, a \
                  user's password too."
)]
pub(in crate::migrate) struct CreateArgs {
    #[command(flatten)]
    dsn: DsnArg,
    /// The user that the service logs in as; it gets all privileges on the database
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// From where the user may log in (MariaDB, MySQL); % is from everywhere
    #[arg(long, value_name = "HOST", default_value = "%", requires = "user")]
    user_host: String,
    /// The environment variable that holds the user's password
    #[arg(
        long,
        value_name = "NAME",
        requires = "user",
        conflicts_with = "password_file"
    )]
    password_env: Option<String>,
    /// The file that holds the user's password, on its first line
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// The database that is there already, to log in to (postgres on PostgreSQL, information_schema on MariaDB
    /// and MySQL unless told)
    #[arg(long, value_name = "NAME")]
    maintenance_database: Option<String>,
    /// Print the statements for an administrator to run, without the password; nothing is connected to
    #[arg(long)]
    print_sql: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// What `create` prints.
#[derive(Debug, Serialize)]
struct Created {
    /// The database, without login.
    target: String,
    steps: Vec<Done>,
}

/// What `create --print-sql` prints.
#[derive(Debug, Serialize)]
struct Script {
    /// The database, without login.
    target: String,
    sql: String,
}

impl CreateArgs {
    pub(in crate::migrate) async fn run(self, common: &Common) -> Result<Exit, Failure> {
        let dsn = common.database.dsn(&self.dsn)?;
        if self.print_sql {
            return self.print(common, &dsn);
        }
        let effect = match self.change.intent() {
            Intent::Do => Effect::Make,
            Intent::Show => Effect::Look,
        };
        let password = self.password()?;
        if self.user.is_some() && password.is_none() && effect == Effect::Make {
            return Err(
                Failure::usage("the user has no password").hint("use --password-env or --password-file")
            );
        }
        let setup = self.setup(&dsn, password)?;
        let options = common.limits.options(Missing::Make);
        let steps = create::create(&dsn, options, &setup, &self.maintenance_database(&dsn), effect)
            .await
            .map_err(failure::of_db)?;
        let created = Created {
            target: dsn.place(),
            steps,
        };
        output::print(common.answer.format, &created, text)?;
        Ok(Exit::Ok)
    }

    fn print(&self, common: &Common, dsn: &Dsn) -> Result<Exit, Failure> {
        let script = Script {
            target: dsn.place(),
            sql: create::script(dsn.dialect(), &self.setup(dsn, None)?),
        };
        output::print(common.answer.format, &script, |script| script.sql.clone())?;
        Ok(Exit::Ok)
    }

    fn setup(&self, dsn: &Dsn, password: Option<Password>) -> Result<Setup, Failure> {
        let user = self.user.as_ref().map(|name| NewUser {
            name: name.clone(),
            host: self.user_host.clone(),
            password,
        });
        Setup::of(dsn, user).map_err(Failure::usage)
    }

    fn password(&self) -> Result<Option<Password>, Failure> {
        let text = match (&self.password_env, &self.password_file) {
            (Some(name), _) => std::env::var(name)
                .map_err(|_| Failure::usage(format!("the environment variable {name} is not set")))?,
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| Failure::usage(format!("read {}: {error}", file.display())))?;
                text.lines().next().unwrap_or_default().to_owned()
            }
            (None, None) => return Ok(None),
        };
        match text.is_empty() {
            true => Err(Failure::usage("the password that was named is empty")),
            false => Ok(Some(Password::new(text))),
        }
    }

    fn maintenance_database(&self, dsn: &Dsn) -> String {
        let usual = match dsn.dialect() {
            Dialect::Postgres | Dialect::Sqlite => "postgres",
            Dialect::MySql => "information_schema",
        };
        self.maintenance_database
            .clone()
            .unwrap_or_else(|| usual.to_owned())
    }
}

fn text(created: &Created) -> String {
    let line = |done: &Done| {
        let outcome = match done.outcome {
            Outcome::Made => "made",
            Outcome::Already => "was there already",
            Outcome::Missing => "would be made",
        };
        format!("{}: {outcome}\n", done.what)
    };
    created.steps.iter().map(line).collect()
}
