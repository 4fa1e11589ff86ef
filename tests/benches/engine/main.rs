//! How fast is the migration engine, beside a plain SQL client and beside other migrators?
//!
//! `make bench-engine` runs it. Everything is measured in one run, on the same server, in alternation: each round
//! runs every contender once, on a fresh database, and a contender's ratio is the median of its rounds' ratios to
//! the floor *of the same round*.
//!
//! | module | what it holds |
//! |---|---|
//! | `sets` | the migrations, written out in each tool's layout |
//! | `servers` | the servers, and fresh databases on them |
//! | `contenders` | how each tool is called |
//! | `rounds` | runs and times them in alternation |
//! | `report` | JSON lines for machines, tables for people |

mod contenders;
mod report;
mod rounds;
mod servers;
mod sets;

use anyhow::{Context, Result};

use contenders::Contender;
use report::Report;
use rounds::Rounds;
use servers::Server;
use sets::{Dialect, Sets};

/// Rounds of each comparison, unless `--rounds N` says otherwise.
const ROUNDS: usize = 5;

/// How many small migrations comparison (a) applies.
const SMALL: usize = 500;

/// How many versions comparison (b) has; each has a file per direction for five databases.
const MANY: usize = 150;

fn main() -> Result<()> {
    let rounds = rounds_wanted()?;
    let mut report = Report::default();
    for dialect in Dialect::ALL {
        compare(dialect, rounds, &mut report).with_context(|| format!("measure on {dialect}"))?;
    }
    report.save()?;
    print!("{}", report.tables());
    Ok(())
}

fn compare(dialect: Dialect, rounds: usize, report: &mut Report) -> Result<()> {
    let server = Server::start(dialect)?;
    let sets = Sets::write(dialect, SMALL, MANY)?;
    let all = Contender::present(dialect);
    eprintln!("{dialect}: {} rounds of {}", rounds, list(&all));
    let run = Rounds {
        server: &server,
        count: rounds,
    };
    report.add(
        "apply 500 small migrations",
        dialect,
        run.apply(&sets.small, &all)?,
    );
    let alone = [Contender::Floor, Contender::Lockkeeper];
    report.add(
        "apply 150 of 1,500 files",
        dialect,
        run.apply(&sets.many, &alone)?,
    );
    report.add("status, 500 applied", dialect, run.status(&sets.small, &all)?);
    Ok(())
}

fn list(contenders: &[Contender]) -> String {
    contenders
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Cargo passes `--bench` to every benchmark.
fn rounds_wanted() -> Result<usize> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => Ok(ROUNDS),
        (Some("--rounds"), Some(count)) => count.parse().context("read --rounds"),
        (Some(other), _) => anyhow::bail!("unknown argument {other}; there is only --rounds N"),
    }
}
