//! Where the programs are that tests start.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

/// The repository's root folder.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Finds a program: in `LOCKKEEPER_TOOLS`, in `.tools/bin`, in `PATH`, then where Debian keeps servers.
pub fn find(program: &str) -> Result<PathBuf> {
    folders()
        .into_iter()
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| anyhow!("{program} is not on this machine: run `make setup`"))
}

fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = env::var_os("LOCKKEEPER_TOOLS")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    folders.push(repository().join(".tools/bin"));
    if let Some(path) = env::var_os("PATH") {
        folders.extend(env::split_paths(&path));
    }
    folders.extend(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.extend(postgres_folders());
    folders
}

/// Debian's `/usr/lib/postgresql/<major>/bin`, newest first.
fn postgres_folders() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir("/usr/lib/postgresql") else {
        return Vec::new();
    };
    let mut majors: Vec<u32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    majors.sort_unstable_by(|left, right| right.cmp(left));
    majors
        .into_iter()
        .map(|major| PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")))
        .collect()
}
