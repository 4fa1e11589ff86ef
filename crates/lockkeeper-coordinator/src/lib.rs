//! The coordinator: a store, an election, agents' sessions, the rollout driver and the services.
//!
//! | module | what it holds |
//! |---|---|
//! | [`store`] | the port to coordination state, on etcd and on an embedded file |
//! | [`session`] | this coordinator's presence in the store |
//! | [`election`] | who leads, and under which epoch |
//! | [`keeper`] | one lease, kept alive |
//! | [`clock`] | the boot-time clock that leases are measured with |

pub mod clock;
pub mod election;
pub mod keeper;
pub mod session;
pub mod store;
