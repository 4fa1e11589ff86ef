//! Yes or no.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::exit::Failure;

/// What a person said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
}

/// Asks on standard error and reads from standard input. Anything but `y` or `yes` is no.
pub(crate) fn ask(question: &str) -> Result<Answer, Failure> {
    let mut stdin = io::stdin().lock();
    if !stdin.is_terminal() {
        return Err(Failure::usage("this needs a yes, and there is no terminal to ask on").hint("use --yes"));
    }
    let mut stderr = io::stderr();
    let mut read = || -> io::Result<String> {
        write!(stderr, "{question} [y/N] ")?;
        stderr.flush()?;
        let mut line = String::new();
        stdin.read_line(&mut line)?;
        Ok(line)
    };
    let line =
        read().map_err(|error| Failure::usage(format!("read the answer: {error}")).hint("use --yes"))?;
    Ok(match line.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Answer::Yes,
        _ => Answer::No,
    })
}
