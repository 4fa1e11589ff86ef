//! The agent against a coordinator whose answers the tests give.

mod fake;
mod fences;
mod links;
mod waiters;
mod writes;
