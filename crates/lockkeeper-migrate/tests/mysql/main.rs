//! What is particular to MariaDB behind the database port; what all dialects share is in `tests/conformance`.

mod barrier;
mod crash;
mod preflight;
mod scripts;
mod support;
mod takeover;
