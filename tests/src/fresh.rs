//! Whether a program was built from the sources that are there now.
//!
//! `cargo test` builds a package's own programs only: a test of another package would quietly run an old one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

/// Fails when a source that `program` was built from has changed since. Cargo names the sources in a `.d` file.
pub(crate) fn check(program: &Path, how_to_build: &str) -> Result<()> {
    let list = program.with_extension("d");
    let list = fs::read_to_string(&list).with_context(|| format!("read {}", list.display()))?;
    let built = changed(program)?;
    for source in sources(&list) {
        if changed(&source).is_ok_and(|at| at <= built) {
            continue;
        }
        bail!(
            "{} is older than {}: run `{how_to_build}`",
            program.display(),
            source.display()
        );
    }
    Ok(())
}

fn changed(path: &Path) -> Result<SystemTime> {
    fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .with_context(|| format!("look at {}", path.display()))
}

/// `program: source source`, as make reads it: a space inside of a path is escaped.
fn sources(list: &str) -> Vec<PathBuf> {
    let sources = list.split_once(": ").map_or("", |(_, sources)| sources);
    let escaped = sources.replace("\\ ", "\0");
    let one = |source: &str| PathBuf::from(source.replace('\0', " "));
    escaped.split_whitespace().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_program_older_than_a_source_is_refused() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let (program, source) = (folder.path().join("p"), folder.path().join("a source.rs"));
        for path in [&program, &source] {
            fs::write(path, "")?;
        }
        let escaped = source.display().to_string().replace(' ', "\\ ");
        fs::write(
            folder.path().join("p.d"),
            format!("{}: {escaped}\n", program.display()),
        )?;
        let now = SystemTime::now();
        let touch = |path: &Path, at| fs::File::options().write(true).open(path)?.set_modified(at);
        touch(&source, now)?;
        touch(&program, now + Duration::from_secs(1))?;
        check(&program, "make build")?;
        touch(&source, now + Duration::from_secs(2))?;
        let refused = check(&program, "make build").map_err(|e| e.to_string());
        assert!(refused.is_err_and(|text| text.contains("a source.rs: run `make build`")));
        Ok(())
    }
}
