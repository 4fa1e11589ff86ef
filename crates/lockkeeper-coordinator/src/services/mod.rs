//! The gRPC services. Messages are parsed here, at the edge; behind it nothing sees one.
//!
//! | module | what it serves |
//! |---|---|
//! | [`agent`] | `AgentService`: one stream per replica |
//! | [`fleet`] | `FleetService`: status, targets, explain |
//! | [`drift`] | `FleetService.CompareTargets` |
//! | [`generation`] | `FleetService.RaiseGeneration` |
//! | [`rollout`] | `RolloutService`: create, get, list, watch, abort, retry |
//! | [`answer`] | records as messages |
//! | [`forward`] | writes that reached a follower |

pub mod agent;
pub mod answer;
pub mod drift;
pub mod fleet;
pub mod forward;
pub mod generation;
pub mod rollout;
