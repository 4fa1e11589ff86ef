//! What was measured, for machines and for people.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use lockkeeper_tests::tools::repository;
use serde_json::json;

use crate::contenders::Contender;
use crate::rounds::Times;
use crate::sets::Dialect;

/// All comparisons of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    comparisons: Vec<(&'static str, Dialect, Vec<Times>)>,
}

impl Report {
    pub(crate) fn add(&mut self, what: &'static str, dialect: Dialect, times: Vec<Times>) {
        self.comparisons.push((what, dialect, times));
    }

    /// Writes one JSON object a line to `target/bench/engine.json`.
    pub(crate) fn save(&self) -> Result<()> {
        let folder = repository().join("target/bench");
        std::fs::create_dir_all(&folder).context("create target/bench")?;
        let file = folder.join("engine.json");
        std::fs::write(&file, self.lines()).with_context(|| format!("write {}", file.display()))
    }

    fn lines(&self) -> String {
        let mut text = String::new();
        for (what, dialect, times) in &self.comparisons {
            for row in times {
                let line = json!({
                    "name": format!("engine/{dialect}/{what}/{}", row.contender),
                    "value": millis(median(row.rounds.clone())),
                    "unit": "ms",
                    "baseline": "floor",
                    "ratio": ratio(row, times),
                    "settings": {"rounds": row.rounds.len(), "statistic": "median"},
                });
                text.push_str(&format!("{line}\n"));
            }
        }
        text
    }

    /// A Markdown table per question: a row per contender, a column pair per database.
    pub(crate) fn tables(&self) -> String {
        let mut text = String::new();
        let mut told = Vec::new();
        for (what, ..) in &self.comparisons {
            if !told.contains(what) {
                told.push(what);
                self.table(what, &mut text);
            }
        }
        text
    }

    fn table(&self, what: &str, text: &mut String) {
        let columns = self
            .comparisons
            .iter()
            .filter(|(name, ..)| *name == what)
            .collect::<Vec<_>>();
        let heads = columns
            .iter()
            .map(|(_, dialect, _)| format!(" {dialect} |"))
            .collect::<String>();
        let _ = writeln!(
            text,
            "\n| {what} |{heads}\n|---|{}",
            "---:|".repeat(columns.len())
        );
        let mut contenders = Vec::<Contender>::new();
        for row in columns.iter().flat_map(|(.., times)| times) {
            if !contenders.contains(&row.contender) {
                contenders.push(row.contender);
            }
        }
        for contender in contenders {
            let cells = columns
                .iter()
                .map(|(.., times)| cell(contender, times))
                .collect::<String>();
            let _ = writeln!(text, "| {contender} |{cells}");
        }
    }
}

fn cell(contender: Contender, times: &[Times]) -> String {
    match times.iter().find(|row| row.contender == contender) {
        Some(row) => format!(
            " {:.0} ms, {:.2} × |",
            millis(median(row.rounds.clone())),
            ratio(row, times)
        ),
        None => " - |".to_owned(),
    }
}

/// The median of the rounds' ratios to the floor of the same round.
fn ratio(row: &Times, all: &[Times]) -> f64 {
    let floor = all
        .iter()
        .find(|other| other.contender == Contender::Floor)
        .unwrap_or(row);
    let pairs = row.rounds.iter().zip(&floor.rounds);
    median(
        pairs
            .map(|(ours, floor)| ours.as_secs_f64() / floor.as_secs_f64())
            .collect(),
    )
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values[values.len() / 2]
}
