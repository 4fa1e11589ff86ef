//! The coordinator: a store, an election, agents' sessions, the rollout driver and the services.
//!
//! | module | what it holds |
//! |---|---|
//! | [`store`] | the port to coordination state, on etcd and on an embedded file |
//! | [`clock`] | the boot-time clock that leases are measured with |

pub mod clock;
pub mod store;
