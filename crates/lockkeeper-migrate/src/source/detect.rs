//! `--layout auto`: decides only when no other layout could mean the directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

use super::files::{Entry, Listing};
use super::layout::NOT_SUPPORTED_YET;
use super::{Direction, Layout, SourceError, golang_migrate, pop};

/// Where goose and dbmate write their directives at the latest, in bytes: real files have licence headers.
const DIRECTIVE_WITHIN_BYTES: u64 = 256 * 1024;

/// pop's versions are time stamps of at least this many digits.
const POP_TIMESTAMP_DIGITS: usize = 14;

/// Most file names shown for each sort of file.
const EXAMPLES_MAX: usize = 3;

static FLYWAY_NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^([VUB][0-9][0-9A-Za-z._-]*|R)__.*\.sql$").expect("the pattern is a constant")
});

static REFINERY_NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[UV][0-9]+(?:\.[0-9]+)?__[0-9A-Za-z_]+\.(sql|rs)$").expect("the pattern is a constant")
});

static NUMBERED_NAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^([0-9]+).*\.sql$").expect("the pattern is a constant"));

static GOOSE_DIRECTIVE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?im)^--\s*\+goose\s+(up|down)\b").expect("the pattern is a constant"));

static DBMATE_DIRECTIVE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^--\s*migrate:(up|down)\b").expect("the pattern is a constant"));

type Names = BTreeSet<&'static str>;

/// A file that some layout would run.
struct Evidence<'a> {
    entry: &'a Entry,
    /// What it looks like, for people.
    sort: &'static str,
    /// The layouts that would run it.
    layouts: Names,
}

/// Decides on the layout of a recursive listing.
pub(super) fn detect(listing: &Listing) -> Result<Layout, SourceError> {
    let mut evidence = Vec::new();
    for entry in &listing.entries {
        evidence.extend(look_at(entry)?);
    }
    let undecided = |problem: String| SourceError::Undecided {
        place: listing
            .dirs
            .iter()
            .map(|d| d.display().to_string())
            .collect::<Vec<_>>()
            .join(", "),
        problem,
        saw: what_was_seen(&evidence),
    };
    let Some(first) = evidence.first() else {
        return Err(undecided("it holds no migration of any known layout".to_owned()));
    };
    let shared = evidence
        .iter()
        .fold(first.layouts.clone(), |all, e| &all & &e.layouts);
    if shared.is_empty() {
        return Err(undecided("it mixes layouts".to_owned()));
    }
    let possible = shared
        .iter()
        .copied()
        .filter(|name| fits_as_a_whole(name, &evidence))
        .collect::<Vec<_>>();
    match possible.as_slice() {
        [] => Err(undecided(format!(
            "its files contradict each other as {}",
            join(&shared)
        ))),
        [one] => one
            .parse()
            .map_err(|_| undecided(format!("it is of layout {one}, which is not supported yet"))),
        several => Err(undecided(format!("it can be {}", several.join(" or ")))),
    }
}

/// Refuses files that a layout would leave out and that another layout's directive or name claims.
pub(super) fn refuse_other_layouts(listing: &Listing, layout: Layout) -> Result<(), SourceError> {
    for entry in &listing.entries {
        let Some(evidence) = look_at(entry)? else { continue };
        let foreign = !evidence.layouts.contains(layout.as_str());
        // Only a plain `1_name.sql` may be anything, a seed for example: it is listed as skipped.
        if foreign && evidence.sort != PLAIN && evidence.sort != PAIR {
            let other = join(&evidence.layouts);
            return Err(SourceError::MixedLayouts {
                layout,
                path: entry.path.clone(),
                other,
            });
        }
    }
    Ok(())
}

const PAIR: &str = "up and down files";
const PLAIN: &str = "numbered files";

fn look_at(entry: &Entry) -> Result<Option<Evidence<'_>>, SourceError> {
    let evidence = |sort, layouts: Names| Some(Evidence { entry, sort, layouts });
    let pair = pair_layouts(entry);
    if let Some(layouts) = pair {
        return Ok(evidence(PAIR, layouts).filter(|e| !e.layouts.is_empty()));
    }
    if FLYWAY_NAME.is_match(&entry.name) {
        let mut layouts = Names::from(["flyway"]);
        if REFINERY_NAME.is_match(&entry.name) {
            layouts.insert("refinery");
        }
        return Ok(evidence("V1__name files", layouts));
    }
    if is_diesel(entry) {
        return Ok(evidence("folders with up.sql", Names::from(["diesel"])));
    }
    let Some(number) = NUMBERED_NAME.captures(&entry.name).filter(|_| entry.depth == 0) else {
        return Ok(None);
    };
    Ok(match directive(&entry.path)? {
        Some("goose") => evidence("goose's directives", Names::from(["goose"])),
        Some(_) => evidence("dbmate's directives", Names::from(["dbmate"])),
        None if number[1].parse::<i64>().is_ok() && entry.name[number[1].len()..].starts_with('_') => {
            evidence(PLAIN, Names::from(["sqlx"]))
        }
        None => None,
    })
}

/// diesel: a folder per version, named `<version>_<name>`, which holds `up.sql` and `down.sql`.
fn is_diesel(entry: &Entry) -> bool {
    let folder = entry
        .path
        .parent()
        .and_then(Path::file_name)
        .map(|f| f.to_string_lossy());
    let versioned = folder.is_some_and(|f| f.starts_with(|c: char| c.is_ascii_digit()) && f.contains('_'));
    entry.depth == 1 && versioned && matches!(entry.name.as_str(), "up.sql" | "down.sql")
}

/// The layouts that would run a file with `.up.` or `.down.` in its name; `None` when it has neither.
fn pair_layouts(entry: &Entry) -> Option<Names> {
    let as_pop = pop::parse(&entry.name);
    let as_golang = golang_migrate::parse(&entry.name).filter(|_| entry.depth == 0);
    if as_pop.is_none() && as_golang.is_none() {
        return None;
    }
    let mut layouts = Names::new();
    if let Some(name) = &as_pop {
        let known = match &name.scope {
            pop::Scope::Other(suffix) => pop::is_other_database(suffix),
            pop::Scope::Any | pop::Scope::Dialect(_) => true,
        };
        let marked = name.scope != pop::Scope::Any || name.autocommit == pop::Autocommit::Yes;
        if known {
            layouts.insert("pop");
        }
        if known && marked && name.version.len() >= POP_TIMESTAMP_DIGITS {
            return Some(layouts);
        }
    }
    if let Some(name) = &as_golang {
        if name.version.parse::<u64>().is_ok() {
            layouts.insert("golang-migrate");
        }
        if name.version.parse::<i64>().is_ok() && name.extension == "sql" {
            layouts.insert("sqlx");
        }
    }
    Some(layouts)
}

/// Whether all pairs together make sense in a layout; single files always do.
fn fits_as_a_whole(layout: &str, evidence: &[Evidence<'_>]) -> bool {
    let names = evidence
        .iter()
        .filter(|e| e.sort == PAIR)
        .map(|e| e.entry.name.as_str());
    match layout {
        "pop" => {
            let parsed = names.filter_map(pop::parse).collect::<Vec<_>>();
            let of = |direction| parsed.iter().filter(move |n| n.direction == direction);
            let downs = of(Direction::Down)
                .map(|n| n.version.as_str())
                .collect::<BTreeSet<_>>();
            let alone = of(Direction::Up).any(|n| !downs.contains(n.version.as_str()));
            !alone && all_differ(parsed.iter().map(|n| (&n.version, &n.scope, n.direction)))
        }
        "golang-migrate" | "sqlx" => {
            let parsed = names.filter_map(golang_migrate::parse);
            all_differ(parsed.map(|n| (n.version.parse::<u64>().ok(), n.direction)))
        }
        _ => true,
    }
}

fn all_differ<T: Ord>(items: impl Iterator<Item = T>) -> bool {
    let mut seen = BTreeSet::new();
    items.into_iter().all(|item| seen.insert(item))
}

/// The tool whose directive the file holds.
fn directive(path: &Path) -> Result<Option<&'static str>, SourceError> {
    let io_error = |source| SourceError::Io {
        path: path.to_owned(),
        source,
    };
    if !path.metadata().map_err(io_error)?.is_file() {
        return Err(SourceError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mut head = Vec::new();
    File::open(path)
        .and_then(|f| f.take(DIRECTIVE_WITHIN_BYTES).read_to_end(&mut head))
        .map_err(io_error)?;
    let head = String::from_utf8_lossy(&head);
    Ok(if GOOSE_DIRECTIVE.is_match(&head) {
        Some("goose")
    } else if DBMATE_DIRECTIVE.is_match(&head) {
        Some("dbmate")
    } else {
        None
    })
}

fn what_was_seen(evidence: &[Evidence<'_>]) -> String {
    let mut sorts = BTreeMap::<(&str, String), Vec<&str>>::new();
    for e in evidence {
        sorts
            .entry((e.sort, join(&e.layouts)))
            .or_default()
            .push(&e.entry.name);
    }
    let lines = sorts.into_iter().map(|((sort, layouts), names)| {
        let examples = names
            .iter()
            .take(EXAMPLES_MAX)
            .copied()
            .collect::<Vec<_>>()
            .join(", ");
        let more = if names.len() > EXAMPLES_MAX { ", …" } else { "" };
        format!("{} {sort} ({layouts}): {examples}{more}", names.len())
    });
    let seen = lines.collect::<Vec<_>>().join("; ");
    if seen.is_empty() {
        format!("nothing of pop, golang-migrate, {}", NOT_SUPPORTED_YET.join(", "))
    } else {
        seen
    }
}

fn join(names: &Names) -> String {
    names.iter().copied().collect::<Vec<_>>().join("/")
}
