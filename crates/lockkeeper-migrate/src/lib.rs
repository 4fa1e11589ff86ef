//! Migration sources, ledgers, plans, the executor, the barrier and verification.
//!
//! This crate knows databases and migration files. It knows neither the store nor gRPC, and no other replica.
//!
//! | module | what it holds | I/O |
//! |---|---|---|
//! | [`dialect`] | the SQL dialects | none |
//! | [`sql`] | where a statement ends, and what sort it is | none |

pub mod dialect;
pub mod sql;
