//! Free ports for servers that need a fixed port, also after a restart.
//!
//! They are below the range of outgoing connections: from within it, a client that keeps reconnecting to a stopped server can be given
//! the server's port as its own and connect to itself.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::random::random;

/// Below the range of outgoing connections on Linux (32,768 and up), above what services use.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static TURN: AtomicU16 = AtomicU16::new(0);

/// A free port. This process returns it only once; another process may take it, so callers retry.
///
/// # Panics
/// When none is free.
pub fn free_port() -> u16 {
    for _ in 0..COUNT {
        let port = next();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port from {FIRST} to {} is free", FIRST + COUNT);
}

/// The next port, counted from a random start.
fn next() -> u16 {
    let _ = TURN.compare_exchange(0, 1 + random(COUNT.into()) as u16, Ordering::Relaxed, Ordering::Relaxed);
    let turn = TURN.update(Ordering::Relaxed, Ordering::Relaxed, |turn| 1 + turn % COUNT);
    FIRST + turn % COUNT
}
