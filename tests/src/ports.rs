//! Free TCP ports on the loopback address.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// Below the kernel's range for outgoing connections, one of which could otherwise take the port between
/// the test's look and the server's bind.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// More tries than there can be busy ports on a sane machine.
const TRIES: usize = 1_000;

/// A TCP port that no other test of this user is given while this value lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves a port that nothing listens on.
    pub fn reserve() -> Result<Port> {
        let folder = lock_folder()?;
        for _ in 0..TRIES {
            let number = fastrand::u16(RANGE);
            let path = folder.join(number.to_string());
            let lock = File::create(&path).with_context(|| format!("create {}", path.display()))?;
            // The lock keeps tests in other processes away until the server has bound, and between its restarts.
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Port { number, _lock: lock });
            }
        }
        bail!("find a free port between {} and {}", RANGE.start, RANGE.end)
    }

    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:<port>`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

fn lock_folder() -> Result<PathBuf> {
    // One per user: nobody else may open another user's files there.
    let user = rustix::process::geteuid().as_raw();
    let folder = std::env::temp_dir().join(format!("lockkeeper-test-ports-{user}"));
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}
