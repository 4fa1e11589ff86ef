//! The harness: real servers and real processes for tests.
//!
//! Every server runs on free ports in a directory of its own, and is killed and removed when its value is
//! dropped, or by the kernel when the test process dies first. The functions block; none of them needs a
//! runtime. A test that starts several servers pays for each start, so share one per test where it is safe.
//!
//! | module | gives |
//! |---|---|
//! | [`etcd`] | a cluster of one or three members, release 3.4 or 3.5 |
//! | [`postgres`], [`mariadb`] | a database server, its DSNs, databases and an unprivileged role |
//! | [`pgbouncer`] | a pooler in transaction mode |
//! | [`cli`] | the `lockkeeper` program, run to its end or kept running |
//! | [`grpcurl`] | a gRPC client that knows nothing about our code |
//! | [`process`] | a child process that can be stopped, frozen and killed |
//! | [`report`] | figures that are wanted when a test passes too |
//! | [`proxy`] | a network that falls silent |
//! | [`wait`], [`ports`], [`http`], [`tools`] | waiting with a deadline, free ports, health, where programs are |
//!
//! This crate depends on no `lockkeeper` crate, so that each of them can test with it.

pub mod cli;
pub mod etcd;
pub mod grpcurl;
pub mod http;
pub mod mariadb;
pub mod pgbouncer;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod report;
pub mod tools;
pub mod wait;

mod fresh;
mod scratch;
mod template;
