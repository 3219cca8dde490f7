//! The bytes of a connection, as hyper or whoever took a WebSocket over reads and writes them. It does what its
//! [`Connection`] says.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::connection::{CLOSED, Connection};
use super::peers::Permit;
use super::wire::Io;
use plugnode_process::metrics;

/// How much is read at once where the reader has less room: that of a WebSocket has little, so that an idle one takes
/// little memory.
const AHEAD: usize = 4_096;

/// The stream of a [`Connection`]. It counts toward the limit of connections for as long as it lives.
pub struct Stream(
    /// It is moved about a lot, through futures that keep room for each place it was in.
    Box<Inner>,
);

struct Inner {
    io: Io,
    connection: Arc<Connection>,
    /// What was read and not asked for yet.
    early: Bytes,
    /// How long the peer may take no byte.
    write_timeout: Option<Duration>,
    /// Runs while the peer takes none.
    until_stuck: Option<Pin<Box<Sleep>>>,
    _permit: Option<Permit>,
}

impl Stream {
    pub(super) fn new(io: Io, connection: Arc<Connection>, permit: Option<Permit>) -> Self {
        Self(Box::new(Inner {
            io,
            connection,
            early: Bytes::new(),
            write_timeout: None,
            until_stuck: None,
            _permit: permit,
        }))
    }

    /// Its handle.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.0.connection
    }

    /// Fails what is written once the peer takes no byte of it for so long.
    pub(super) fn limit_writes(&mut self, timeout: Option<Duration>) {
        self.0.write_timeout = timeout;
        self.0.until_stuck = None;
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
    /// Reads what comes next, and keeps what has come behind it.
    fn poll_next(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let now = self.early.len().min(buffer.remaining());
            buffer.put_slice(&self.early[..now]);
            self.early.advance(now);
            if self.early.is_empty() {
                self.early = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        if buffer.remaining() >= AHEAD {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let mut ahead = [MaybeUninit::uninit(); AHEAD];
        let mut ahead = ReadBuf::uninit(&mut ahead);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut ahead))?;
        let (now, later) = ahead.filled().split_at(ahead.filled().len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.early = Bytes::copy_from_slice(later);
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
            self.until_stuck = None;
            return Poll::Ready(done);
        }
        if let Some(timeout) = self.write_timeout {
            let until_stuck = self
                .until_stuck
                .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + timeout)));
            if until_stuck.as_mut().poll(cx).is_ready() {
                metrics::WRITES_TIMED_OUT.increment();
                self.connection.close();
                return Poll::Ready(Err(stuck(timeout)));
            }
        }
        self.connection.writer_waits(cx.waker());
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
        let this = &mut *self.get_mut().0;
        let state = this.connection.state();
        if state & CLOSED != 0 {
            return Poll::Ready(Ok(()));
        }
        if state == 0
            && let Poll::Ready(read) = this.poll_next(cx, buffer)
        {
            return Poll::Ready(read);
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
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_writing(cx, |io, cx| io.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_writing(cx, |io, cx| io.poll_write_vectored(cx, bytes))
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

fn stuck(timeout: Duration) -> io::Error {
    let words = format!("the peer took no byte of its answer for {timeout:?}; see [http] write-timeout-ms");
    io::Error::new(io::ErrorKind::TimedOut, words)
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the connection was closed by this node")
}
