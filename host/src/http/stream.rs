//! The bytes of a connection, as hyper or whoever took a WebSocket over reads and writes them.
//!
//! It does what its [`Connection`] says. Whoever reads a WebSocket expects signs of life from the peer, which wait
//! unread behind a pause. So a pause of a WebSocket takes hold between two messages, and the reader is given the
//! [`Heartbeat`]'s sign of life from time to time instead.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};

use super::connection::{CLOSED, Connection};
use super::frames::Frames;
use super::wire::Io;

/// How much is read at once of a WebSocket: its reader has little room, so that an idle one takes little memory.
const AHEAD: usize = 4_096;
/// How much is read at once of a message that has to come to its end before something else does.
const PIECE: usize = 1_024;

/// The stream of a [`Connection`]. It counts toward the limit of connections for as long as it lives.
pub struct Stream(
    /// It is moved about a lot, through futures that keep room for each place it was in.
    Box<Inner>,
);

/// What is done in the place of a WebSocket's peer.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// What the reader gets while it is paused, in the place of what the peer may have sent: a whole frame, masked as a
    /// client's are.
    pub sign_of_life: &'static [u8],
    /// The time between two of them.
    pub every: Duration,
    /// How many of the peer's messages come through before a pause takes hold.
    pub first: u32,
    /// What the peer is spared.
    pub spared: Option<Spared>,
}

/// What the peer of a WebSocket is spared when it is written for the first time.
#[derive(Debug, Clone, Copy)]
pub struct Spared {
    /// A whole frame.
    pub frame: &'static [u8],
    /// Whether the writer gets a sign of life as the answer.
    pub is_answered: bool,
}

struct Inner {
    io: Io,
    connection: Arc<Connection>,
    /// What was read and not asked for yet.
    early: Bytes,
    websocket: Option<WebSocket>,
    end: Option<End>,
    _permit: OwnedSemaphorePermit,
}

type End = Box<dyn FnOnce() + Send + Sync>;

struct WebSocket {
    heartbeat: Arc<Heartbeat>,
    /// Where its reader is.
    frames: Frames,
    /// Where its writer is, until a frame was spared.
    sparing: Option<Box<Frames>>,
    /// Whether the answer to the spared frame is due.
    answering: bool,
    /// What is left of a sign of life,
    owed: &'static [u8],
    /// when the last was given,
    given_at: Option<Instant>,
    /// and what wakes for the next.
    next: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    pub(super) fn new(io: Io, connection: Arc<Connection>, permit: OwnedSemaphorePermit) -> Self {
        Self(Box::new(Inner {
            io,
            connection,
            early: Bytes::new(),
            websocket: None,
            end: None,
            _permit: permit,
        }))
    }

    /// Its handle.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.0.connection
    }

    /// What comes from now on is a WebSocket, both ways.
    pub fn becomes_websocket(&mut self, heartbeat: Arc<Heartbeat>) {
        self.0.websocket = Some(WebSocket {
            frames: Frames::new(heartbeat.first),
            sparing: heartbeat.spared.map(|_| Box::new(Frames::of_server())),
            heartbeat,
            answering: false,
            owed: &[],
            given_at: None,
            next: None,
        });
    }

    /// Has something done when whoever owns the stream lets it go.
    pub fn when_let_go(&mut self, end: impl FnOnce() + Send + Sync + 'static) {
        self.0.end = Some(Box::new(end));
    }

    /// Puts back what was read, in front of all that was not.
    pub fn put_back(&mut self, read: Bytes) {
        // An empty rest would keep all of what it is the rest of.
        self.0.early = match (read.is_empty(), self.0.early.is_empty()) {
            (true, true) => Bytes::new(),
            (true, false) => return,
            (false, true) => read,
            (false, false) => [read, std::mem::take(&mut self.0.early)].concat().into(),
        };
    }
}

impl Inner {
    /// Reads what comes next.
    fn poll_next(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.early.is_empty() {
            ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        } else {
            let now = self.early.len().min(buffer.remaining());
            buffer.put_slice(&self.early[..now]);
            self.early.advance(now);
            if self.early.is_empty() {
                self.early = Bytes::new();
            }
        }
        self.saw(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }

    /// Reads what comes next, and keeps what has come behind it.
    fn poll_ahead(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() || buffer.remaining() >= AHEAD {
            return self.poll_next(cx, buffer);
        }
        let mut ahead = [MaybeUninit::uninit(); AHEAD];
        let mut ahead = ReadBuf::uninit(&mut ahead);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut ahead))?;
        let (now, later) = ahead.filled().split_at(ahead.filled().len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.early = Bytes::copy_from_slice(later);
        self.saw(now);
        Poll::Ready(Ok(()))
    }

    /// The reader is given this.
    fn saw(&mut self, bytes: &[u8]) {
        if let Some(websocket) = &mut self.websocket {
            websocket.frames.saw(bytes);
        }
    }

    /// Reads to the end of the message that has begun.
    fn poll_rest(&mut self, rest: usize, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut piece = [0; PIECE];
        let mut piece = ReadBuf::new(&mut piece[..rest.min(PIECE).min(buffer.remaining())]);
        let read = ready!(self.poll_next(cx, &mut piece));
        buffer.put_slice(piece.filled());
        Poll::Ready(read)
    }

    fn poll_reading(
        &mut self,
        is_paused: bool,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(websocket) = &mut self.websocket else {
            return if is_paused {
                Poll::Pending
            } else {
                self.poll_next(cx, buffer)
            };
        };
        if !websocket.owed.is_empty() {
            websocket.pay(buffer);
            return Poll::Ready(Ok(()));
        }
        if websocket.frames.is_broken() {
            return if is_paused {
                Poll::Pending
            } else {
                self.poll_next(cx, buffer)
            };
        }
        if !is_paused && !websocket.answering {
            return self.poll_ahead(cx, buffer);
        }
        if let Some(rest) = websocket.frames.rest() {
            return self.poll_rest(rest, cx, buffer);
        }
        ready!(websocket.poll_sign_of_life(cx));
        websocket.pay(buffer);
        Poll::Ready(Ok(()))
    }

    /// Writes, and counts what was written.
    fn poll_writing(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut Io>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.poll_unless_closed(cx, write))?;
        self.connection.wrote(written);
        Poll::Ready(Ok(written))
    }

    /// Does what may wait for the peer to read, unless the connection was closed, and notes who waits.
    fn poll_unless_closed<T>(
        &mut self,
        cx: &mut Context<'_>,
        act: impl FnOnce(Pin<&mut Io>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.connection.is_closed() {
            return Poll::Ready(Err(closed()));
        }
        if let Poll::Ready(done) = act(Pin::new(&mut self.io), cx) {
            return Poll::Ready(done);
        }
        self.connection.writer_waits(cx.waker());
        // A close between the look and the registration would wake nobody.
        if self.connection.is_closed() {
            Poll::Ready(Err(closed()))
        } else {
            Poll::Pending
        }
    }

    /// Writes up to the frame that the peer is spared, and of that one nothing.
    fn poll_sparing(
        &mut self,
        mut sparing: Box<Frames>,
        spared: Spared,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let before = sparing.before(spared.frame, bytes);
        if before == 0 && !bytes.is_empty() {
            if let Some(websocket) = &mut self.websocket
                && spared.is_answered
            {
                websocket.answering = true;
                self.connection.wake_reader();
            }
            return Poll::Ready(Ok(spared.frame.len()));
        }
        let written = self.poll_writing(cx, |io, cx| io.poll_write(cx, &bytes[..before]));
        if let Poll::Ready(Ok(written)) = &written {
            sparing.saw(&bytes[..*written]);
        }
        if let Some(websocket) = &mut self.websocket {
            websocket.sparing = Some(sparing);
        }
        written
    }

    /// What is spared, while something is.
    fn sparing(&mut self) -> Option<(Box<Frames>, Spared)> {
        let websocket = self.websocket.as_mut()?;
        Some((websocket.sparing.take()?, websocket.heartbeat.spared?))
    }
}

impl WebSocket {
    /// Waits until a sign of life is due: at once as the answer to a frame that was spared.
    fn poll_sign_of_life(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !std::mem::take(&mut self.answering) {
            let now = Instant::now();
            let due = self.given_at.map_or(now, |given| given + self.heartbeat.every);
            if now < due {
                let next = self.next.get_or_insert_with(|| Box::pin(sleep_until(due)));
                if next.deadline() != due {
                    next.as_mut().reset(due);
                }
                ready!(next.as_mut().poll(cx));
            }
            self.given_at = Some(Instant::now());
        }
        self.owed = self.heartbeat.sign_of_life;
        Poll::Ready(())
    }

    /// Gives the reader what is left of a sign of life.
    fn pay(&mut self, buffer: &mut ReadBuf<'_>) {
        let (now, later) = self.owed.split_at(self.owed.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.owed = later;
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self.get_mut().0;
        let state = this.connection.state();
        if state & CLOSED != 0 {
            return Poll::Ready(Ok(()));
        }
        let polled = this.poll_reading(state != 0, cx, buffer);
        if polled.is_ready() {
            return polled;
        }
        this.connection.reader_waits(cx.waker());
        // A change between the look and the registration would wake nobody.
        if this.connection.state() != state {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self.get_mut().0;
        match this.sparing() {
            Some((sparing, spared)) => this.poll_sparing(sparing, spared, cx, bytes),
            None => this.poll_writing(cx, |io, cx| io.poll_write(cx, bytes)),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self.get_mut().0;
        match this.sparing() {
            Some((sparing, spared)) => {
                let first = bytes.iter().find(|slice| !slice.is_empty());
                this.poll_sparing(sparing, spared, cx, first.map_or(&[], |slice| slice))
            }
            None => this.poll_writing(cx, |io, cx| io.poll_write_vectored(cx, bytes)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.0.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_unless_closed(cx, |io, cx| io.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The peer may be gone, and then there is nothing left to do either.
        if ready!(self.0.poll_unless_closed(cx, |io, cx| io.poll_shutdown(cx))).is_err() {
            let _ = ready!(Pin::new(self.0.io.tcp()).poll_shutdown(cx));
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(end) = self.0.end.take() {
            end();
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the connection was closed by this node")
}
