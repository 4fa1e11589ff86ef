//! SQLite: one file, one host, one writer.
//!
//! The barrier is SQLite's own write lock: [`Hand::raise_barrier`](crate::db::Hand::raise_barrier) begins one
//! IMMEDIATE transaction, every migration of the fence is a savepoint in it, and
//! [`Hand::open`](crate::db::Hand::open) commits migrations, ledger and gate row together. Every other writer gets
//! `SQLITE_BUSY` meanwhile, whatever it is and whatever it writes to; readers go on. A crash undoes all of it, and
//! a successor starts again from the old schema. There are no triggers: on the shadow tables of a virtual table
//! they would crash the application.
//!
//! | module | what it holds |
//! |---|---|
//! | `database` | the target as seen from outside |
//! | `take` | taking it: the claim, and the end of an older executor |
//! | `break_glass` | what a person may do without a fleet |
//! | `hand` | the one session that changes it |
//! | `run` | one migration: in one transaction, or journalled |
//! | `verify` | what a verification script says |
//! | `scratch` | files that live as long as one rehearsal |
//! | `measure` | what each statement writes anew, and how many rows it changes |
//! | `catalogue` | the schema, read from `sqlite_schema` |
//! | `ledger`, `journal` | their rows |
//! | `gate` | the gate row |
//! | `meta`, `book` | the format of our tables; the table of the tool whose ledger was chosen |
//! | `lock` | waiting for the write lock, and for a commit |
//! | `holders` | who holds it, as far as the kernel tells |
//! | `session` | one connection, which others in this process can end |
//! | `upkeep`, `restore`, `examine` | row counts and records of backups; a backup put right; what `doctor` looks at |
//! | `witness` | the file that says whether an executor lives |

mod book;
mod break_glass;
mod catalogue;
mod database;
mod examine;
mod gate;
mod hand;
mod holders;
mod journal;
mod ledger;
mod lock;
mod measure;
mod meta;
mod restore;
mod run;
mod scratch;
mod session;
mod take;
mod upkeep;
mod verify;
mod witness;

pub use database::SqliteDatabase;
pub(crate) use scratch::copy_schema;
pub(super) use scratch::scratch_server;
