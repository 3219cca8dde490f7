//! A TCP connection that can be slowed and ended from outside of the code that reads and writes it.
//!
//! socketioxide and hyper own the stream, and neither of them can hold back a client that sends too much or end one
//! that does not read. So the stream they are given asks its [`Connection`] before each read and write.
//!
//! Whoever reads a WebSocket expects signs of life from the peer, which wait unread behind the pause. So a pause of a
//! WebSocket takes hold between two messages, and the reader is given a [`SignOfLife`] from time to time instead.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};

use super::frames::Frames;

/// Set in the state of a connection that was closed; the other bits count the pauses.
const CLOSED: u32 = 1 << 31;
/// How much is read at once of a message that has to come to its end before a pause.
const PIECE: usize = 1_024;

/// The handle of a TCP connection. Each request that comes on it has an `Arc<Connection>` among its extensions, and
/// the handle goes on working when the connection is upgraded.
#[derive(Debug)]
pub struct Connection {
    peer: SocketAddr,
    state: AtomicU32,
    written: AtomicU64,
    reader: AtomicWaker,
    writer: AtomicWaker,
    websocket: OnceLock<SignOfLife>,
}

/// What the reader of a paused WebSocket gets in the place of what the peer may have sent.
#[derive(Debug, Clone, Copy)]
pub struct SignOfLife {
    /// A whole frame, masked as a client's are.
    pub frame: &'static [u8],
    /// The time between two of them.
    pub every: Duration,
    /// How many of the peer's messages come through before a pause takes hold.
    pub first: u32,
}

impl Connection {
    pub(super) fn new(peer: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            peer,
            state: AtomicU32::new(0),
            written: AtomicU64::new(0),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
            websocket: OnceLock::new(),
        })
    }

    /// What comes after the present request is a WebSocket. To be said before that request is answered, once.
    pub fn becomes_websocket(&self, sign_of_life: SignOfLife) {
        // A second handshake on a connection means that the first was refused: then these are no frames, and seen to be.
        let _ = self.websocket.set(sign_of_life);
    }

    /// The other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Stops reading, so that the peer's own sending stalls; on a WebSocket, at the end of a message. Pauses are counted:
    /// reading goes on after as many calls of [`resume`](Self::resume). While paused, it is not noticed that the peer
    /// closes.
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

    /// Bytes that the kernel took so far. It stands still while a peer does not read.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn state(&self) -> u32 {
        self.state.load(Ordering::Acquire)
    }
}

/// The stream of a [`Connection`]. It counts toward the limit of connections for as long as it lives.
pub(super) struct Stream {
    tcp: TcpStream,
    connection: Arc<Connection>,
    /// Where in the WebSocket the reader is, when it is one.
    frames: Option<Frames>,
    /// What is left of a sign of life,
    owed: &'static [u8],
    /// when the last was given,
    given_at: Option<Instant>,
    /// and what wakes for the next.
    next: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

impl Stream {
    pub(super) fn new(tcp: TcpStream, connection: Arc<Connection>, permit: OwnedSemaphorePermit) -> Self {
        Self {
            tcp,
            connection,
            frames: None,
            owed: &[],
            given_at: None,
            next: None,
            _permit: permit,
        }
    }

    fn poll_reading(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.tcp).poll_read(cx, buffer));
        if let Some(frames) = &mut self.frames {
            frames.saw(&buffer.filled()[before..]);
        }
        Poll::Ready(read)
    }

    /// Reads while paused: to the end of the message that has begun, and from then on signs of life.
    fn poll_paused(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(frames) = self.frames.as_ref().filter(|frames| !frames.is_broken()) else {
            return Poll::Pending;
        };
        if let Some(rest) = frames.rest() {
            let mut piece = [0; PIECE];
            let mut piece = ReadBuf::new(&mut piece[..rest.min(PIECE).min(buffer.remaining())]);
            let read = ready!(self.poll_reading(cx, &mut piece));
            buffer.put_slice(piece.filled());
            return Poll::Ready(read);
        }
        let Some(sign) = self.connection.websocket.get() else {
            return Poll::Pending;
        };
        let due = self.given_at.map_or_else(Instant::now, |given| given + sign.every);
        if Instant::now() < due {
            let next = self.next.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if next.deadline() != due {
                next.as_mut().reset(due);
            }
            ready!(next.as_mut().poll(cx));
        }
        self.given_at = Some(Instant::now());
        self.owed = sign.frame;
        self.pay(buffer);
        Poll::Ready(Ok(()))
    }

    /// Gives the reader what is left of a sign of life.
    fn pay(&mut self, buffer: &mut ReadBuf<'_>) {
        let (now, later) = self.owed.split_at(self.owed.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.owed = later;
    }

    /// Makes one kind of write, unless the connection was closed, and notes who waits.
    fn poll_writing(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if self.connection.is_closed() {
            return Poll::Ready(Err(closed()));
        }
        if let Poll::Ready(written) = write(Pin::new(&mut self.tcp), cx) {
            let written = written?;
            self.connection.written.fetch_add(written as u64, Ordering::Relaxed);
            return Poll::Ready(Ok(written));
        }
        self.connection.writer.register(cx.waker());
        // A close between the look and the registration would wake nobody.
        if self.connection.is_closed() {
            Poll::Ready(Err(closed()))
        } else {
            Poll::Pending
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let state = this.connection.state();
        if state & CLOSED != 0 {
            return Poll::Ready(Ok(()));
        }
        if this.frames.is_none()
            && let Some(sign) = this.connection.websocket.get()
        {
            this.frames = Some(Frames::new(sign.first));
        }
        if !this.owed.is_empty() {
            this.pay(buffer);
            return Poll::Ready(Ok(()));
        }
        let polled = match state {
            0 => this.poll_reading(cx, buffer),
            _ => this.poll_paused(cx, buffer),
        };
        if polled.is_ready() {
            return polled;
        }
        this.connection.reader.register(cx.waker());
        // A change between the look and the registration would wake nobody.
        if this.connection.state() != state {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_writing(cx, |tcp, cx| tcp.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .poll_writing(cx, |tcp, cx| tcp.poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The peer may be gone, and then there is nothing left to do either.
        let _ = ready!(Pin::new(&mut self.tcp).poll_shutdown(cx));
        Poll::Ready(Ok(()))
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the connection was closed by this node")
}
