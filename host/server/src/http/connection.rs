//! The handle of a TCP connection, by which it is slowed and ended from outside of the code that reads and writes it.
//!
//! Whoever reads and writes the [`Stream`](super::Stream), hyper among them, does not know who sends too much or does not
//! read. So the stream asks its `Connection` before each read and write.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use futures_util::task::AtomicWaker;

/// Set in the state of a connection that was closed; the other bits count the pauses.
pub(super) const CLOSED: u32 = 1 << 31;

/// The handle of a TCP connection. Each request that comes on it has an `Arc<Connection>` among its extensions, and
/// the handle goes on working when the connection is upgraded.
#[derive(Debug)]
pub struct Connection {
    peer: Option<SocketAddr>,
    state: AtomicU32,
    written: AtomicU64,
    /// Whether a request is in hand: hyper gives one after the other.
    is_answering: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

/// A request that is in hand.
#[derive(Debug)]
pub(super) struct InHand(Arc<Connection>);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.is_answering.store(false, Ordering::Relaxed);
    }
}

impl Connection {
    pub(super) fn new(peer: Option<SocketAddr>) -> Arc<Self> {
        Arc::new(Self {
            peer,
            state: AtomicU32::new(0),
            written: AtomicU64::new(0),
            is_answering: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        })
    }

    /// The other end. Of a connection that a server took which is not ours, it is not known.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Stops reading, so that the peer's own sending stalls. Pauses are counted: reading goes on after as many calls of
    /// [`resume`](Self::resume). While paused, it is not noticed that the peer closes.
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

    /// Ends the connection: its reads come to their end and its writes fail from now on, also one that waits for the
    /// peer to read. What was written before is still sent.
    pub fn close(&self) {
        self.state.fetch_or(CLOSED, Ordering::AcqRel);
        self.reader.wake();
        self.writer.wake();
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.state() & CLOSED != 0
    }

    /// Whether it is paused, and not closed.
    pub fn is_paused(&self) -> bool {
        let state = self.state();
        state != 0 && state & CLOSED == 0
    }

    /// Waits out the pauses. A connection that was closed is not waited for.
    pub fn poll_unpaused(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.is_paused() {
            return Poll::Ready(());
        }
        self.reader_waits(cx.waker());
        // A change between the look and the registration would wake nobody.
        if self.is_paused() {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    /// Bytes that the kernel took so far. It stands still while a peer does not read.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// A request is in hand until what this gives is dropped.
    pub(super) fn answering(self: &Arc<Self>) -> InHand {
        self.is_answering.store(true, Ordering::Relaxed);
        InHand(self.clone())
    }

    /// Whether a request is in hand, of which no answer has begun.
    pub(super) fn is_answering(&self) -> bool {
        self.is_answering.load(Ordering::Relaxed)
    }

    /// Whether it is paused (any bit) and closed (this one), seen at one moment.
    pub(super) fn state(&self) -> u32 {
        self.state.load(Ordering::Acquire)
    }

    pub(super) fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn reader_waits(&self, waker: &Waker) {
        self.reader.register(waker);
    }

    pub(super) fn writer_waits(&self, waker: &Waker) {
        self.writer.register(waker);
    }
}
