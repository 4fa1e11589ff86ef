//! Migration sources, ledgers, plans, the executor, the barrier and verification.
//!
//! This crate knows databases and migration files. It knows neither the store nor gRPC, and no other replica.
//!
//! | module | what it holds | I/O |
//! |---|---|---|
//! | [`dialect`] | the SQL dialects | none |
//! | [`ledger`] | what a target records, as plain data | none |
//! | [`plan`] | what has to be done, from source and ledger alone; status and verification of both | none |
//! | [`source`] | migration directories, read unchanged | reads files |
//! | [`sql`] | where a statement ends, and what sort it is | none |

pub mod dialect;
pub mod ledger;
pub mod plan;
pub mod source;
pub mod sql;
