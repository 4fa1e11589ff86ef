//! The doctor: what is wrong between here and a database, and in it, each with its remedy. Changes nothing by itself.
//!
//! | module | what it holds |
//! |---|---|
//! | `diagnosis` | what was looked at and what was found |
//! | `examine` | from the DSN's form to the database's health, as far as each step lets the next one be |
//! | `reach` | name, port, socket, file |
//! | `refusal` | why a server let nobody in |
//! | `disk` | space and file system, where they can be seen |
//! | `mend` | the few things that are safe to put right |

mod diagnosis;
mod disk;
mod examine;
mod mend;
mod reach;
mod refusal;

pub use diagnosis::{Check, Diagnosis, Outcome};
pub(crate) use disk::space;
pub use examine::examine;
pub use mend::{Mending, mend, mendings};
