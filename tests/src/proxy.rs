//! A TCP proxy that can fall silent: what a client sees of a network that drops everything.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// How soon a cut or the end is noticed.
const POLL: Duration = Duration::from_millis(20);

const FORWARD: u8 = 0;
const CUT: u8 = 1;
const END: u8 = 2;

/// Forwards connections to one server until it is told to stop. Dropping it closes them.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<AtomicU8>,
}

impl Proxy {
    /// `upstream` is `host:port`.
    pub fn start(upstream: &str) -> Result<Proxy> {
        let upstream: SocketAddr = upstream.parse().with_context(|| format!("read {upstream:?}"))?;
        let listener = TcpListener::bind("127.0.0.1:0").context("listen for the proxy")?;
        listener.set_nonblocking(true).context("listen without waiting")?;
        let address = listener.local_addr().context("find the proxy's port")?;
        let state = Arc::new(AtomicU8::new(FORWARD));
        let of_thread = Arc::clone(&state);
        thread::spawn(move || accept(&listener, upstream, &of_thread));
        Ok(Proxy { address, state })
    }

    /// `127.0.0.1:<port>`
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on nothing goes through, in either direction; connections stay open, and new ones hang.
    pub fn cut(&self) {
        self.state.store(CUT, Ordering::SeqCst);
    }

    /// Ends a cut: what was held back goes through.
    pub fn mend(&self) {
        self.state.store(FORWARD, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.store(END, Ordering::SeqCst);
    }
}

fn accept(listener: &TcpListener, upstream: SocketAddr, state: &Arc<AtomicU8>) {
    loop {
        match state.load(Ordering::SeqCst) {
            END => return,
            FORWARD => {
                if let Ok((client, _)) = listener.accept()
                    && let Ok(server) = TcpStream::connect(upstream)
                {
                    forward_both(client, server, state);
                    continue;
                }
            }
            _ => {}
        }
        thread::sleep(POLL);
    }
}

fn forward_both(client: TcpStream, server: TcpStream, state: &Arc<AtomicU8>) {
    // A failed clone means a connection that is gone already.
    let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    for (from, to) in [(client, server), (server_too, client_too)] {
        let state = Arc::clone(state);
        thread::spawn(move || {
            forward(&from, &to, &state);
            // The other direction ends with this one.
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}

/// Copies until an end of the connection, or of the proxy.
fn forward(mut from: &TcpStream, mut to: &TcpStream, state: &AtomicU8) {
    if from.set_nonblocking(false).is_err() || from.set_read_timeout(Some(POLL)).is_err() {
        return;
    }
    let mut buffer = [0; 16 * 1024];
    loop {
        match state.load(Ordering::SeqCst) {
            END => return,
            CUT => {
                thread::sleep(POLL);
                continue;
            }
            _ => {}
        }
        let count = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => return,
        };
        // Read before a cut, and held back by it.
        while state.load(Ordering::SeqCst) == CUT {
            thread::sleep(POLL);
        }
        if to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_holds_back_and_a_mended_proxy_delivers() -> Result<()> {
        let server = TcpListener::bind("127.0.0.1:0")?;
        let proxy = Proxy::start(&server.local_addr()?.to_string())?;
        let mut client = TcpStream::connect(proxy.address())?;
        let (mut accepted, _) = server.accept()?;
        client.write_all(b"a")?;
        let mut letter = [0];
        accepted.read_exact(&mut letter)?;
        proxy.cut();
        client.write_all(b"b")?;
        accepted.set_read_timeout(Some(Duration::from_millis(200)))?;
        assert!(
            accepted.read(&mut letter).is_err(),
            "went through a cut: {letter:?}"
        );
        proxy.mend();
        accepted.set_read_timeout(Some(Duration::from_secs(5)))?;
        accepted.read_exact(&mut letter)?;
        assert_eq!(&letter, b"b");
        drop(proxy);
        assert_eq!(client.read(&mut letter)?, 0, "the connection outlives its proxy");
        Ok(())
    }
}
