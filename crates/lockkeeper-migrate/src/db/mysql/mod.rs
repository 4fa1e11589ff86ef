//! MariaDB and MySQL.
//!
//! | module | what it holds |
//! |---|---|
//! | `database`, `hand` | the two traits |
//! | `admin` | an administrator's session, which is no hand: for making a database |
//! | `target`, `session`, `failure`, `text` | DSN and server; one session; its errors; safe SQL text |
//! | `gate`, `take` | the gate row; taking it over |
//! | `others`, `watch` | other sessions: named, watched, ended |
//! | `barrier` | the triggers that refuse writers |
//! | `meta`, `book` | the format of our own tables; the table of the tool whose ledger was chosen |
//! | `epoch_table` | strength EPOCH: what writers touch, and what closing drops |
//! | `apply`, `stepwise`, `journal`, `ledger`, `variables` | running a migration |
//! | `doubt`, `tokens`, `resolve` | after a crash: did a statement take effect, and what a person says about it |
//! | `break_glass` | what a person may do without a fleet |
//! | `verify` | verification scripts |
//! | `scratch` | databases that live as long as one rehearsal |
//! | `measure` | what each statement locks and writes anew |
//! | `catalogue` | the schema, read from `information_schema` |
//! | `preflight`, `grants` | what would stand in the way |
//! | `upkeep`, `restore`, `examine` | row counts and records of backups; what goes around a restore; what `doctor` looks at |
//!
//! Two things differ from the other dialects and shape all of it. DDL commits, and lets every row lock go: so the
//! executor is told by its connection id *and* by a user lock that it holds while it lives, and a migration with DDL
//! is journalled statement by statement. And a trigger needs the table's definition for itself alone: so raising the
//! barrier waits for readers too, in short tries, and ends those that outlast the patience.

mod admin;
mod apply;
mod barrier;
mod book;
mod break_glass;
mod catalogue;
mod database;
mod doubt;
mod epoch_table;
mod examine;
mod failure;
mod gate;
mod grants;
mod hand;
mod journal;
mod ledger;
mod measure;
mod meta;
mod others;
mod preflight;
mod resolve;
mod restore;
mod scratch;
mod session;
mod stepwise;
mod take;
mod target;
mod text;
mod tokens;
mod upkeep;
mod variables;
mod verify;
mod watch;

pub(super) use admin::MySqlAdmin;
pub use database::MySqlDatabase;
pub(crate) use scratch::names;
pub(super) use scratch::{look, scratch_server};
