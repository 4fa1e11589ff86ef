//! The pages say what is: their examples parse, the commands and flags that they name exist, their links lead
//! somewhere.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helper functions"
)]

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use lockkeeper_core::spec::{RolloutSpec, TargetsFile};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// All pages, with their text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut paths: Vec<PathBuf> = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]
        .map(|name| root().join(name))
        .into();
    paths.extend(files(&root().join("docs")));
    paths
        .into_iter()
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let parts: Vec<&str> = text.split("```").skip(1).step_by(2).collect();
    let of_language = |block: &&str| block.lines().next() == Some(language);
    parts
        .into_iter()
        .filter(of_language)
        .map(|block| block[language.len()..].trim().to_owned())
        .collect()
}

fn run(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lockkeeper"))
        .args(arguments)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn help(path: &[&str]) -> String {
    let (code, text) = run(&[path, &["--help"]].concat());
    assert_eq!(code, 0, "lockkeeper {path:?} --help: {text}");
    text
}

/// The names that a line of help begins with.
fn long_flags(help: &str) -> BTreeSet<&str> {
    let flag = |line: &'_ str| line.trim_start().starts_with('-').then_some(());
    help.lines()
        .filter(|line| flag(line).is_some())
        .flat_map(|line| line.split_whitespace().filter(|word| word.starts_with("--")))
        .map(|word| word.trim_end_matches(','))
        .collect()
}

fn subcommands(help: &str) -> BTreeSet<&str> {
    let section = help.split("Commands:\n").nth(1).unwrap_or_default();
    section
        .lines()
        .take_while(|line| line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .collect()
}

/// What a page tells a coordinator's operator to write parses as what the program reads.
fn check_yaml(place: &str, text: &str) {
    if text.contains("\ntargets:") || text.starts_with("targets:") {
        let file: TargetsFile = serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{place}: {e}"));
        assert!(!file.targets.is_empty(), "{place}");
    } else if text.contains("waves:") {
        let spec: RolloutSpec = serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{place}: {e}"));
        assert!(!spec.waves.is_empty(), "{place}");
    } else {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        // The store of the command line wins over the file's, and is the first thing wrong with the whole.
        let (code, said) = run(&[
            "serve",
            "--config",
            file.path().to_str().unwrap(),
            "--store",
            "nowhere",
        ]);
        assert!(
            code == 2 && said.starts_with("error: --store:"),
            "{place}: {said}"
        );
    }
}

#[test]
fn yaml_examples_parse() {
    let mut seen = 0;
    for (path, text) in pages() {
        for (index, block) in blocks(&text, "yaml").iter().enumerate() {
            check_yaml(&format!("{} block {index}", path.display()), block);
            seen += 1;
        }
    }
    assert!(seen >= 5, "the pages have {seen} examples: are they still found?");
    for name in ["targets.yaml", "rollout.yaml"] {
        let path = root().join("deploy/compose").join(name);
        check_yaml(name, &fs::read_to_string(path).unwrap());
    }
}

/// The words of a shell line that calls lockkeeper, without what the shell and other programs are told.
fn call(line: &str) -> Option<Vec<&str>> {
    let line = line.split(" #").next()?.split(" -- ").next()?;
    let words: Vec<&str> = line
        .split_whitespace()
        .skip_while(|word| word.contains('='))
        .collect();
    (words.first() == Some(&"lockkeeper")).then(|| words[1..].to_vec())
}

#[test]
fn commands_in_examples_exist() {
    let mut seen = 0;
    for (path, text) in pages() {
        for block in blocks(&text, "sh") {
            let block = block.replace("\\\n", " ");
            for line in block.lines() {
                let Some(words) = call(line) else { continue };
                let mut command = Vec::new();
                let mut text = help(&command);
                for word in &words {
                    if subcommands(&text).contains(word) {
                        command.push(*word);
                        text = help(&command);
                    } else {
                        break;
                    }
                }
                assert!(!command.is_empty(), "{}: no such command: {line}", path.display());
                let flags = long_flags(&text);
                for flag in words.iter().filter(|word| word.starts_with("--")) {
                    assert!(
                        flags.contains(flag),
                        "{}: {flag} in {line}: {flags:?}",
                        path.display()
                    );
                }
                seen += 1;
            }
        }
    }
    assert!(
        seen >= 15,
        "the pages have {seen} commands: are they still found?"
    );
}

#[test]
fn every_flag_of_serve_is_explained() {
    let page = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let explained: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `--")?.split('`').next())
        .collect();
    let text = help(&["serve"]);
    let own: BTreeSet<&str> = long_flags(&text)
        .into_iter()
        .filter_map(|flag| flag.strip_prefix("--"))
        .filter(|flag| !matches!(*flag, "help" | "version"))
        .collect();
    assert_eq!(explained, own);
}

/// The long flags that a section's table explains.
fn explained(section: &str) -> BTreeSet<String> {
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let names = rows.filter_map(|line| line.split('|').nth(1));
    names
        .flat_map(|names| names.split('`'))
        .filter(|name| name.starts_with("--"))
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn every_verb_and_flag_of_migrate_sql_is_explained() {
    let page = fs::read_to_string(root().join("docs/migrate-sql.md")).unwrap();
    let section = |heading: &str| {
        let start = page
            .find(&format!("{heading}\n"))
            .unwrap_or_else(|| panic!("no section {heading:?}"));
        let text = &page[start + heading.len()..];
        text.split("\n## ")
            .next()
            .unwrap()
            .split("\n### ")
            .next()
            .unwrap()
            .to_owned()
    };
    let flags = |path: &[&str]| {
        let mut flags: BTreeSet<String> = long_flags(&help(path))
            .into_iter()
            .map(ToOwned::to_owned)
            .collect();
        flags.retain(|flag| !matches!(flag.as_str(), "--help" | "--version"));
        flags
    };
    let shared = flags(&["migrate", "sql"]);
    assert_eq!(explained(&section("## Flags that all verbs share")), shared);
    let text = help(&["migrate", "sql"]);
    let verbs = subcommands(&text);
    assert!(verbs.len() > 10, "{verbs:?}");
    for verb in verbs.into_iter().filter(|verb| *verb != "help") {
        let own: BTreeSet<String> = flags(&["migrate", "sql", verb])
            .difference(&shared)
            .cloned()
            .collect();
        assert_eq!(explained(&section(&format!("### `{verb}`"))), own, "{verb}");
    }
}

#[test]
fn every_schema_is_linked_from_a_page() {
    let page: String = files(&root().join("docs"))
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect();
    let schemas = files(&root().join("docs/schema"));
    assert!(schemas.len() >= 9, "{schemas:?}");
    for path in schemas {
        let name = path.file_name().unwrap().to_string_lossy();
        assert!(page.contains(&format!("(schema/{name})")), "no link to {name}");
    }
}

#[test]
fn deployments_set_what_exists() {
    let known: String = [
        &["serve"][..],
        &["agent", "run"],
        &["agent", "wait"],
        &["rollout", "create"],
    ]
    .map(help)
    .concat();
    let mut seen = 0;
    for path in files(&root().join("deploy")) {
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|l| !l.starts_with('#'))
            .collect();
        for line in &lines {
            let names = line.split(|c: char| !c.is_ascii_uppercase() && c != '_');
            for name in names.filter(|name| name.starts_with("LOCKKEEPER_")) {
                assert!(known.contains(&format!("{name}=")), "{}: {line}", path.display());
                seen += 1;
            }
            let listens = ["LOCKKEEPER_LISTEN", "LOCKKEEPER_ADMIN_LISTEN"]
                .iter()
                .find_map(|name| line.strip_prefix(name)?.strip_prefix([':', '=']));
            if let Some(value) = listens {
                let address = value.trim();
                assert!(
                    address.parse::<SocketAddr>().is_ok(),
                    "{}: {line}",
                    path.display()
                );
            }
        }
    }
    assert!(seen >= 20, "deploy/ sets {seen} variables: are they still found?");
}

#[test]
fn links_lead_somewhere() {
    for (path, text) in pages() {
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let linked = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            assert!(linked.exists(), "{}: {target}", path.display());
            if !anchor.is_empty() {
                let headings = fs::read_to_string(&linked).unwrap();
                let found = headings
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .any(|line| slug(line) == anchor);
                assert!(found, "{}: {target}", path.display());
            }
        }
    }
}

/// A heading's anchor.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}
