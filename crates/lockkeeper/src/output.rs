//! Results on standard output, in the format that was asked for.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::exit::{Exit, Failure};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns, for people
    #[default]
    Table,
    /// One JSON object on one line
    Json,
    /// One JSON object, indented
    JsonPretty,
    /// One YAML document
    Yaml,
}

impl Format {
    /// Whether a person reads along, so that plans and prompts belong on standard output too.
    pub(crate) fn is_for_people(self) -> bool {
        self == Self::Table
    }
}

/// Prints `value` as the format has it; `table` draws it for people.
pub(crate) fn print<T: Serialize>(
    format: Format,
    value: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    let failed = |error: String| Failure::new(Exit::Error, format!("print the result: {error}"));
    let text = match format {
        Format::Table => table(value),
        Format::Json => serde_json::to_string(value).map_err(|error| failed(error.to_string()))? + "\n",
        Format::JsonPretty => {
            serde_json::to_string_pretty(value).map_err(|error| failed(error.to_string()))? + "\n"
        }
        Format::Yaml => serde_saphyr::to_string(value).map_err(|error| failed(error.to_string()))?,
    };
    write(&text)
}

/// Writes to standard output. A reader that has gone away, as in `… | head`, is no error.
pub(crate) fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            Exit::Error,
            format!("write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}

/// Draws rows under a header, each column as wide as its widest cell.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&header).chain(rows).collect();
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let draw = |line: &Vec<String>| {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    lines.into_iter().map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![
            vec!["1".to_owned(), "users".to_owned()],
            vec!["20".to_owned(), "x".to_owned()],
        ];
        assert_eq!(
            table(&["Version", "Name"], &rows),
            "Version  Name\n1        users\n20       x\n"
        );
    }
}
