//! The handle of a TCP connection, which pauses and closes it from outside the code that reads and writes it.
//!
//! hyper and other users of the [`Stream`](super::Stream) do not know which client sends too much or does not read. So the stream
//! checks its `Connection` before each read and write.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use futures_util::task::AtomicWaker;

/// Bit of the state that marks a closed connection. The other bits count pauses.
pub(super) const CLOSED: u32 = 1 << 31;

/// The handle of a TCP connection. Each request on it has an `Arc<Connection>` among its extensions. The handle keeps working
/// after an upgrade.
#[derive(Debug)]
pub struct Connection {
    peer: Option<SocketAddr>,
    state: AtomicU32,
    written: AtomicU64,
    /// Whether a request is running. hyper runs one at a time.
    has_running_request: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

/// Marks a request as running until it is dropped.
#[derive(Debug)]
pub(super) struct RequestGuard(Arc<Connection>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.has_running_request.store(false, Ordering::Relaxed);
    }
}

impl Connection {
    pub(super) fn new(peer: Option<SocketAddr>) -> Arc<Self> {
        Arc::new(Self {
            peer,
            state: AtomicU32::new(0),
            written: AtomicU64::new(0),
            has_running_request: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        })
    }

    /// The client's address. None if another server accepted the connection.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Stops reading, so that the peer's sending stalls. Pauses are counted: reading resumes after as many calls of
    /// [`resume`](Self::resume). While paused, a close by the peer is not noticed.
    pub fn pause(&self) {
        self.state.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes one pause back.
    pub fn resume(&self) {
        let fewer = |state| (state & !CLOSED > 0).then(|| state - 1);
        let before = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer);
        debug_assert!(before.is_ok(), "a connection was resumed more often than it was paused");
        if before == Ok(1) {
            self.reader.wake();
        }
    }

    /// Closes the connection: reads return the end of the stream, and writes fail, also one that waits for the peer to read.
    /// Bytes that were written before are still sent.
    pub fn close(&self) {
        self.state.fetch_or(CLOSED, Ordering::AcqRel);
        self.reader.wake();
        self.writer.wake();
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.state() & CLOSED != 0
    }

    /// Whether it is paused and not closed.
    pub fn is_paused(&self) -> bool {
        let state = self.state();
        state != 0 && state & CLOSED == 0
    }

    /// Waits until it is not paused. A closed connection counts as not paused.
    pub fn poll_unpaused(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.is_paused() {
            return Poll::Ready(());
        }
        self.register_reader(cx.waker());
        // A change between the check and the registration wakes nobody.
        if self.is_paused() {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    /// Number of bytes that the kernel has accepted. It does not grow while the peer does not read.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Marks a request as running until the guard is dropped.
    pub(super) fn request_guard(self: &Arc<Self>) -> RequestGuard {
        self.has_running_request.store(true, Ordering::Relaxed);
        RequestGuard(self.clone())
    }

    /// Whether a request is running whose response has not begun.
    pub(super) fn has_running_request(&self) -> bool {
        self.has_running_request.load(Ordering::Relaxed)
    }

    /// The number of pauses and the bit [`CLOSED`], read at once.
    pub(super) fn state(&self) -> u32 {
        self.state.load(Ordering::Acquire)
    }

    pub(super) fn add_written(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn register_reader(&self, waker: &Waker) {
        self.reader.register(waker);
    }

    pub(super) fn register_writer(&self, waker: &Waker) {
        self.writer.register(waker);
    }
}
