//! What a service replica embeds, so that schema migrations and its writes never meet.
//!
//! The agent registers with any coordinator, waits until the schema of its databases fits, and then hands out
//! *permits*: one per write transaction. While a rollout has a database's gate closed, [`Agent::write`] waits; that
//! is all a writer notices. When the last permit is back, the agent tells its coordinator *drained*.
//!
//! ```no_run
//! use lockkeeper_agent::Agent;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let agent = Agent::builder()
//!     .service("kratos").replica("kratos-7f9c-1").region("eu-west-1").release("1.2")
//!     .coordinators(["http://10.0.0.1:7400", "http://10.0.0.2:7400"])
//!     .target("kratos/eu-west-1", "20240101"..="20240301")
//!     .build()?;
//! agent.register_and_wait().await?;               // the schema fits, the gate is open
//! let permit = agent.write("kratos/eu-west-1").await?; // waits while a migration runs
//! // … one write transaction …
//! drop(permit);
//! agent.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What happens without a coordinator
//!
//! The agent looks for another one, and keeps what it knows. Meanwhile permits are handed out until the write lease
//! ends ([`OnLoss::Stop`], the default, ten seconds at most), or for as long as the gate was last seen open
//! ([`OnLoss::GoOn`], only for targets whose database itself refuses writes while the gate is closed). An agent that
//! *starts* without a coordinator waits for one, unless it was given a way to the target's own gate row
//! (`AgentBuilder::gate_row`, feature `sqlx`): it then writes when that says that the gate is open at a version that
//! fits.
//!
//! # What a permit is, and is not
//!
//! A process can be held up between taking a permit and writing, so a permit alone cannot keep a late write out: the
//! database's barrier does. Take a permit per transaction, end the transaction by [`Permit::deadline`], and treat the
//! database's refusal (feature `sqlx`: `lockkeeper_agent::sqlx`) as a fence.

mod agent;
mod builder;
mod clock;
mod coordinators;
mod error;
mod gate_row;
mod link;
mod permit;
mod refusal;
mod shared;
#[cfg(feature = "sqlx")]
pub mod sqlx;
mod stream;
mod target;
mod versions;
mod wait;
mod wire;

pub use agent::{Agent, SHUTDOWN_GRACE};
pub use builder::{AgentBuilder, TARGETS_MAX, WaitError};
pub use clock::{BootClock, Clock};
pub use coordinators::{Dial, Dialling};
pub use error::{AgentError, BuildError};
pub use gate_row::{Carried, GateRow};
pub use lockkeeper_core::epoch::GateEpoch;
pub use lockkeeper_core::permits::{Cause, Fence, OnLoss, TargetView};
pub use lockkeeper_core::time::Instant;
pub use lockkeeper_core::version::{SchemaVersion, VersionOrder, VersionRange};
pub use permit::Permit;
pub use refusal::{Refusal, Refused, WriteError};
pub use shared::LinkState;
pub use versions::Versions;
pub use wait::{Opened, Progress};

/// Compiles the example in the repository's README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
