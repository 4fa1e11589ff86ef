//! `--layout auto`: decides only when no other layout could mean the directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

use super::files::{Entry, Listing};
use super::{Direction, Layout, SourceError, flyway, golang_migrate, goose, layout, pop, refinery, sqlx};

/// Where goose and dbmate write their directives at the latest, in bytes: real files have licence headers.
const DIRECTIVE_WITHIN_BYTES: u64 = 256 * 1024;

/// pop's versions are time stamps of at least this many digits.
const POP_TIMESTAMP_DIGITS: usize = 14;

/// Most file names shown for each sort of file.
const EXAMPLES_MAX: usize = 3;

static NUMBERED_NAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^([0-9]+).*\.sql$").expect("the pattern is a constant"));

static GOOSE_DIRECTIVE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?im)^--\s*\+goose\s+(up|down)\b").expect("the pattern is a constant"));

static DBMATE_DIRECTIVE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^--\s*migrate:(up|down)\b").expect("the pattern is a constant"));

type Layouts = BTreeSet<Layout>;

/// What a file looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sort {
    /// `1_a.up.sql`
    Pair,
    /// `1_a.sql` without a directive.
    Plain,
    Goose,
    Dbmate,
    /// `V1__a.sql`
    Prefixed,
    /// `1_a/up.sql`
    Folder,
}

impl Sort {
    /// For people.
    fn as_str(self) -> &'static str {
        match self {
            Self::Pair => "up and down files",
            Self::Plain => "numbered files",
            Self::Goose => "files with goose's directives",
            Self::Dbmate => "files with dbmate's directives",
            Self::Prefixed => "V1__name files",
            Self::Folder => "folders with up.sql",
        }
    }

    /// Whether it lies in directories of other layouts too, as a seed for example: it is listed as skipped.
    fn may_be_anything(self) -> bool {
        match self {
            Self::Pair | Self::Plain => true,
            Self::Goose | Self::Dbmate | Self::Prefixed | Self::Folder => false,
        }
    }
}

/// A file that some layout would run.
struct Evidence<'a> {
    entry: &'a Entry,
    sort: Sort,
    /// The layouts that would run it.
    layouts: Layouts,
}

/// Decides on the layout of a recursive listing.
pub(super) fn detect(listing: &Listing) -> Result<Layout, SourceError> {
    let mut evidence = Vec::new();
    for entry in &listing.entries {
        evidence.extend(look_closely(entry)?);
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
    // Beside pairs a plain file may be a seed that the layouts of pairs pass over.
    let paired = evidence.iter().any(|e| e.sort == Sort::Pair);
    let mut telling = evidence.iter().filter(|e| !(paired && e.sort == Sort::Plain));
    let Some(first) = telling.next() else {
        return Err(undecided("it holds no migration of any known layout".to_owned()));
    };
    let shared = telling.fold(first.layouts.clone(), |all, e| &all & &e.layouts);
    if shared.is_empty() {
        return Err(undecided("it mixes layouts".to_owned()));
    }
    let possible = shared
        .iter()
        .copied()
        .filter(|layout| fits_as_a_whole(*layout, &evidence))
        .collect::<Vec<_>>();
    match possible.as_slice() {
        [] => Err(undecided(format!(
            "its files contradict each other as {}",
            join(&shared, "/")
        ))),
        [one] => Ok(*one),
        several => Err(undecided(format!("it can be {}", join(several, " or ")))),
    }
}

/// Refuses files that a layout would leave out, or misread, and that another layout's directive or name claims.
pub(super) fn refuse_other_layouts(listing: &Listing, layout: Layout) -> Result<(), SourceError> {
    for entry in &listing.entries {
        let Some(evidence) = look_at(entry)? else { continue };
        if !evidence.layouts.contains(&layout) && !evidence.sort.may_be_anything() {
            return Err(SourceError::MixedLayouts {
                layout,
                path: entry.path.clone(),
                other: join(&evidence.layouts, "/"),
            });
        }
    }
    Ok(())
}

/// As [`look_at`], but a directive also decides for a pair: `auto` must not run both directions of such a file.
fn look_closely(entry: &Entry) -> Result<Option<Evidence<'_>>, SourceError> {
    let evidence = look_at(entry)?;
    match &evidence {
        Some(e) if e.sort == Sort::Pair && e.layouts.contains(&Layout::Sqlx) => {
            Ok(by_directive(entry)?.or(evidence))
        }
        _ => Ok(evidence),
    }
}

fn look_at(entry: &Entry) -> Result<Option<Evidence<'_>>, SourceError> {
    let evidence = |sort, layouts| Evidence { entry, sort, layouts };
    if let Some(layouts) = pair_layouts(entry) {
        return Ok(Some(evidence(Sort::Pair, layouts)).filter(|e| !e.layouts.is_empty()));
    }
    let prefixed = prefixed_layouts(&entry.name);
    if !prefixed.is_empty() {
        return Ok(Some(evidence(Sort::Prefixed, prefixed)));
    }
    if is_diesel(entry) {
        return Ok(Some(evidence(Sort::Folder, Layouts::from([Layout::Diesel]))));
    }
    if entry.depth > 0 || !NUMBERED_NAME.is_match(&entry.name) {
        return Ok(None);
    }
    if let Some(found) = by_directive(entry)? {
        return Ok(Some(found));
    }
    let plain = sqlx::parse(&entry.name).filter(|name| name.version.parse::<i64>().is_ok());
    Ok(plain.map(|_| evidence(Sort::Plain, Layouts::from([Layout::Sqlx]))))
}

fn by_directive(entry: &Entry) -> Result<Option<Evidence<'_>>, SourceError> {
    let head = head(&entry.path)?;
    let (sort, layout) = if GOOSE_DIRECTIVE.is_match(&head) && goose::parse_name(&entry.name).is_some() {
        (Sort::Goose, Layout::Goose)
    } else if DBMATE_DIRECTIVE.is_match(&head) {
        (Sort::Dbmate, Layout::Dbmate)
    } else {
        return Ok(None);
    };
    Ok(Some(Evidence {
        entry,
        sort,
        layouts: Layouts::from([layout]),
    }))
}

/// The layouts that would run a file such as `V1__a.sql`. `U1__a.sql` means opposite things to them.
fn prefixed_layouts(name: &str) -> Layouts {
    let mut layouts = Layouts::new();
    let sidecar_of = name.strip_suffix(".conf");
    if name.contains("__") && flyway::parse(sidecar_of.unwrap_or(name)).is_some() {
        layouts.insert(Layout::Flyway);
    }
    if refinery::is_name(name) {
        layouts.insert(Layout::Refinery);
    }
    layouts
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
fn pair_layouts(entry: &Entry) -> Option<Layouts> {
    let as_pop = pop::parse(&entry.name);
    let as_golang = golang_migrate::parse(&entry.name).filter(|_| entry.depth == 0);
    if as_pop.is_none() && as_golang.is_none() {
        return None;
    }
    let mut layouts = Layouts::new();
    if let Some(name) = &as_pop {
        let known = match &name.scope {
            pop::Scope::Other(suffix) => pop::is_other_database(suffix),
            pop::Scope::Any | pop::Scope::Dialect(_) => true,
        };
        let marked = name.scope != pop::Scope::Any || name.autocommit == pop::Autocommit::Yes;
        if known {
            layouts.insert(Layout::Pop);
        }
        if known && marked && name.version.len() >= POP_TIMESTAMP_DIGITS {
            return Some(layouts);
        }
    }
    if let Some(name) = &as_golang {
        if name.version.parse::<u64>().is_ok() {
            layouts.insert(Layout::GolangMigrate);
        }
        if name.version.parse::<i64>().is_ok() && name.extension == "sql" {
            layouts.insert(Layout::Sqlx);
        }
    }
    Some(layouts)
}

/// Whether all pairs together make sense in a layout; single files always do.
fn fits_as_a_whole(layout: Layout, evidence: &[Evidence<'_>]) -> bool {
    let names = evidence
        .iter()
        .filter(|e| e.sort == Sort::Pair)
        .map(|e| e.entry.name.as_str());
    match layout {
        Layout::Pop => {
            let parsed = names.filter_map(pop::parse).collect::<Vec<_>>();
            let of = |direction| parsed.iter().filter(move |n| n.direction == direction);
            let downs = of(Direction::Down)
                .map(|n| n.version.as_str())
                .collect::<BTreeSet<_>>();
            let alone = of(Direction::Up).any(|n| !downs.contains(n.version.as_str()));
            !alone && all_differ(parsed.iter().map(|n| (&n.version, &n.scope, n.direction)))
        }
        Layout::GolangMigrate | Layout::Sqlx => {
            let parsed = names.filter_map(golang_migrate::parse);
            all_differ(parsed.map(|n| (n.version.parse::<u64>().ok(), n.direction)))
        }
        Layout::Goose | Layout::Dbmate | Layout::Refinery | Layout::Flyway | Layout::Diesel => true,
    }
}

fn all_differ<T: Ord>(items: impl Iterator<Item = T>) -> bool {
    let mut seen = BTreeSet::new();
    items.into_iter().all(|item| seen.insert(item))
}

/// The begin of a file, in which directives stand.
fn head(path: &Path) -> Result<String, SourceError> {
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
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn what_was_seen(evidence: &[Evidence<'_>]) -> String {
    let mut sorts = BTreeMap::<(Sort, String), Vec<&str>>::new();
    for e in evidence {
        sorts
            .entry((e.sort, join(&e.layouts, "/")))
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
        let sort = sort.as_str();
        format!("{} {sort} ({layouts}): {examples}{more}", names.len())
    });
    let seen = lines.collect::<Vec<_>>().join("; ");
    if seen.is_empty() {
        format!("nothing of {}", layout::names())
    } else {
        seen
    }
}

fn join<'a>(layouts: impl IntoIterator<Item = &'a Layout>, between: &str) -> String {
    let names = layouts.into_iter().map(|layout| layout.as_str());
    names.collect::<Vec<_>>().join(between)
}
