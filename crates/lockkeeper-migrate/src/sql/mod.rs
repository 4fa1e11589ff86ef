//! SQL text, as far as a migrator must understand it: where a statement ends, and what sort it is.
//!
//! | module | what it holds |
//! |---|---|
//! | [`statement`] | one statement: text, place, kind |
//! | [`split`](mod@split) | a file's text into statements |
//! | `lexer` | tokens per dialect; knows quotes and comments, not grammar |
//! | `body` | which semicolons lie inside a body and end nothing |
//! | `classify` | the kind of a statement by its leading words |
//! | [`words`] | a statement's words and a file's comments, for judging and never for running |
//! | `pieces` | the tokens that mean something, to compare texts |
//!
//! Nothing here parses SQL: the server does. A wrong guess about *where a statement ends* would change what
//! runs, so lexing follows each server's own client; a wrong guess about *kind* only makes a file run statement
//! by statement, or fail loudly.

mod body;
mod classify;
mod lexer;
mod pieces;
pub mod split;
pub mod statement;
pub mod words;

pub(crate) use pieces::pieces;
pub use split::{SplitError, SplitProblem, split};
pub use statement::{CopyRows, Statement, StatementKind, TransactionVerb};
pub use words::{Comment, comments};
