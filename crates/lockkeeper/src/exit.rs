//! How the program ends: the exit code, and the one line that says why.

use std::fmt;
use std::process::ExitCode;

/// Exit codes, the same for every command. Declining a prompt is [`Exit::Ok`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done, or nothing to do.
    Ok = 0,
    /// It failed; nothing more precise is known.
    Error = 1,
    /// The command line, or a file it names, cannot be used as it is.
    Usage = 2,
    /// Something is pending: migrations that are not applied yet.
    Pending = 3,
    /// Something is wrong with the state: an edited file, a database that is ahead of the directory, …
    WrongState = 4,
    /// A rollout is held and waits for a person.
    Held = 5,
    /// A wait ended before what it waited for had come.
    TimedOut = 6,
    /// It ended otherwise than asked: aborted, rolled back.
    EndedOtherwise = 7,
}

/// Every exit code, for `--help`.
pub(crate) fn help() -> String {
    const MEANINGS: [(Exit, &str); 8] = [
        (Exit::Ok, "done, nothing to do, or declined"),
        (Exit::Error, "error"),
        (Exit::Usage, "the command line or a file cannot be used as it is"),
        (Exit::Pending, "something is pending"),
        (Exit::WrongState, "something is wrong with the state"),
        (Exit::Held, "held, a person must decide"),
        (Exit::TimedOut, "timed out"),
        (
            Exit::EndedOtherwise,
            "ended otherwise than asked: aborted or rolled back",
        ),
    ];
    let lines = MEANINGS.map(|(exit, meaning)| format!("  {}  {meaning}", exit as u8));
    format!("Exit codes:\n{}", lines.join("\n"))
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed: printed as `error: …`, and `hint: …` when there is one.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
            hint: None,
        }
    }

    /// The command line cannot be used as it is.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The message without its prefix and hint.
    pub(crate) fn message(&self) -> String {
        self.message.clone()
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}
