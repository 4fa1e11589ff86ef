//! Data directories that are initialised once per machine and then copied: ten times faster than `initdb`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};

use crate::tools;

/// Fills `target` with a copy of the cached directory `key`; `initialise` makes `target` when there is none yet.
pub(crate) fn fill(key: &str, target: &Path, initialise: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let cached = cache_folder().join(key);
    if cached.is_dir() {
        return copy(&cached, target);
    }
    initialise(target)?;
    // Other tests may do the same now: each copies aside, and a rename makes the first one visible.
    static COPIES: AtomicU64 = AtomicU64::new(0);
    let copy_number = COPIES.fetch_add(1, Ordering::Relaxed);
    let aside = cache_folder().join(format!(".{key}-{}-{copy_number}", std::process::id()));
    copy(target, &aside)?;
    if std::fs::rename(&aside, &cached).is_err() {
        std::fs::remove_dir_all(&aside).with_context(|| format!("remove {}", aside.display()))?;
    }
    Ok(())
}

/// Asks a program for its version, to be part of a template's key: another release has another directory.
pub(crate) fn version_of(program: &Path) -> Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .with_context(|| format!("run {} --version", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // mariadbd puts its whole path first.
    let text = text.trim().rsplit('/').next().unwrap_or_default();
    Ok(text.replace(
        |letter: char| !letter.is_ascii_alphanumeric() && letter != '.',
        "_",
    ))
}

fn cache_folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || tools::repository().join("target"),
        |folder| tools::repository().join(folder),
    );
    target.join("test-cache")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    // `cp` keeps owners and modes, and shares blocks where the file system can.
    let output = Command::new("cp")
        .args(["-a", "--reflink=auto", "-T"])
        .args([from, to])
        .output()
        .context("run cp")?;
    if !output.status.success() {
        bail!(
            "copy {} to {}: {}",
            from.display(),
            to.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
