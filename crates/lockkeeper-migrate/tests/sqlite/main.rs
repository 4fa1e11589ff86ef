//! What is particular to SQLite behind the database port; what all dialects share is in `tests/conformance`.

mod barrier;
mod loss;
mod scripts;
mod standalone;
mod support;
mod takeover;
