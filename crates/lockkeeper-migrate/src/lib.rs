//! Migration sources, ledgers, plans, the executor, the barrier and verification.
//!
//! This crate knows databases and migration files. It knows neither the store nor gRPC, and no other replica.
//!
//! | module | what it holds | I/O |
//! |---|---|---|
//! | [`backup`] | backups: made, tried, recorded, asked for before something is lost, brought back | starts programs, writes files |
//! | [`db`] | the database port, and its implementation per dialect | talks to databases |
//! | [`dialect`] | the SQL dialects | none |
//! | [`doctor`] | what is wrong between here and a database, and in it, with remedies | opens connections |
//! | [`dsn`] | where a database is and how to log in | none |
//! | [`dump_tools`] | the servers' own dump programs and SQLite's online copy, run under one set of rules | starts programs |
//! | [`engine`] | looks, plans, migrates and verifies through the port | none of its own |
//! | [`external`] | other migrators' commands, run and read | starts programs |
//! | [`failpoint`] | where tests end the process, in debug builds only | signals itself |
//! | [`fingerprint`] | what a schema is made of, its hash, and how two differ | reads files |
//! | [`ledger`] | what a target records, as plain data | none |
//! | [`online`] | may a migration run while writers go on, and what does it take away from an old release | none |
//! | [`plan`] | what has to be done, from source and ledger alone; status and verification of both | none |
//! | [`process`] | a program with all its children, to be signalled and waited for together | starts programs |
//! | [`rehearse`] | what is pending, applied to a clone first | runs dump programs |
//! | [`source`] | migration directories, read unchanged | reads files |
//! | [`sql`] | where a statement ends, and what sort it is | none |

pub mod backup;
pub mod db;
pub mod dialect;
pub mod doctor;
pub mod dsn;
pub mod dump_tools;
pub mod engine;
pub mod external;
pub mod failpoint;
pub mod fingerprint;
pub mod ledger;
pub mod online;
pub mod plan;
pub mod process;
pub mod rehearse;
pub mod source;
pub mod sql;
