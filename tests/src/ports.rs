//! Free ports for servers that must be told theirs, and must find it again after a restart.
//!
//! They come from below the range that the system gives to outgoing connections. From within it, a client that tries
//! again and again to reach a server that is down is given that very port one day, and is connected to itself.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::random::random;

/// Below the range of outgoing connections on Linux (32,768 and up), above what services use.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static TURN: AtomicU16 = AtomicU16::new(0);

/// A port that nobody listens on. This process does not give it twice; another may take it, so be ready to try again.
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

/// One after the other, from a place of this process's own.
fn next() -> u16 {
    let _ = TURN.compare_exchange(0, 1 + random(COUNT.into()) as u16, Ordering::Relaxed, Ordering::Relaxed);
    let turn = TURN.update(Ordering::Relaxed, Ordering::Relaxed, |turn| 1 + turn % COUNT);
    FIRST + turn % COUNT
}
