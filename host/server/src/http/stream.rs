//! The bytes of a connection, for hyper or the owner of a WebSocket. Its [`Connection`] can pause and close it.

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
use super::connection_limiter::ConnectionPermit;
use super::transport_stream::TransportStream;
use plugnode_process::metrics;

/// Number of bytes to read at once if the reader's buffer is smaller. A WebSocket has a small one, so that an idle connection takes
/// little memory.
const READ_AHEAD: usize = 4_096;

/// The stream of a [`Connection`]. It counts toward the limit of connections for as long as it lives.
pub struct Stream(
    /// Boxed, because it moves through futures that reserve space for each of its places.
    Box<StreamState>,
);

struct StreamState {
    transport: TransportStream,
    connection: Arc<Connection>,
    /// Bytes that were read ahead.
    read_ahead: Bytes,
    /// How long the peer may take no byte.
    write_timeout: Option<Duration>,
    /// Runs while the peer takes no byte.
    write_deadline: Option<Pin<Box<Sleep>>>,
    _permit: Option<ConnectionPermit>,
}

impl Stream {
    pub(super) fn new(
        transport: TransportStream,
        connection: Arc<Connection>,
        permit: Option<ConnectionPermit>,
    ) -> Self {
        Self(Box::new(StreamState {
            transport,
            connection,
            read_ahead: Bytes::new(),
            write_timeout: None,
            write_deadline: None,
            _permit: permit,
        }))
    }

    /// Its handle.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.0.connection
    }

    /// Makes writes fail after the peer took no byte for this long.
    pub(super) fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.0.write_timeout = timeout;
        self.0.write_deadline = None;
    }

    /// Puts back bytes that were read: they are read next.
    pub fn put_back(&mut self, read: Bytes) {
        // An empty slice would keep its whole buffer alive.
        self.0.read_ahead = match (read.is_empty(), self.0.read_ahead.is_empty()) {
            (true, true) => Bytes::new(),
            (true, false) => return,
            (false, true) => read,
            (false, false) => [read, std::mem::take(&mut self.0.read_ahead)].concat().into(),
        };
    }
}

impl StreamState {
    /// Reads the next bytes, and keeps what the buffer has no room for.
    fn poll_next(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.read_ahead.is_empty() {
            let now = self.read_ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.read_ahead[..now]);
            self.read_ahead.advance(now);
            if self.read_ahead.is_empty() {
                self.read_ahead = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        if buffer.remaining() >= READ_AHEAD {
            return Pin::new(&mut self.transport).poll_read(cx, buffer);
        }
        let mut ahead = [MaybeUninit::uninit(); READ_AHEAD];
        let mut ahead = ReadBuf::uninit(&mut ahead);
        ready!(Pin::new(&mut self.transport).poll_read(cx, &mut ahead))?;
        let (now, later) = ahead.filled().split_at(ahead.filled().len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.read_ahead = Bytes::copy_from_slice(later);
        Poll::Ready(Ok(()))
    }

    /// Writes, and counts the bytes.
    fn poll_counted(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TransportStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.poll_unless_closed(cx, write))?;
        self.connection.add_written(written);
        Poll::Ready(Ok(written))
    }

    /// Runs an operation that may wait for the peer to read. Fails if the connection is closed or the peer takes no byte in time.
    fn poll_unless_closed<T>(
        &mut self,
        cx: &mut Context<'_>,
        act: impl FnOnce(Pin<&mut TransportStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.connection.is_closed() {
            return Poll::Ready(Err(closed()));
        }
        if let Poll::Ready(done) = act(Pin::new(&mut self.transport), cx) {
            self.write_deadline = None;
            return Poll::Ready(done);
        }
        if let Some(timeout) = self.write_timeout {
            let deadline = self
                .write_deadline
                .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + timeout)));
            if deadline.as_mut().poll(cx).is_ready() {
                metrics::WRITES_TIMED_OUT.increment();
                self.connection.close();
                return Poll::Ready(Err(timed_out(timeout)));
            }
        }
        self.connection.register_writer(cx.waker());
        // A close between the check and the registration wakes nobody.
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
        this.connection.register_reader(cx.waker());
        // A change between the check and the registration wakes nobody.
        if this.connection.state() != state {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_counted(cx, |transport, cx| transport.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0
            .poll_counted(cx, |transport, cx| transport.poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_unless_closed(cx, |transport, cx| transport.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // An error means that the peer is gone; then only TCP is closed.
        if ready!(
            self.0
                .poll_unless_closed(cx, |transport, cx| transport.poll_shutdown(cx))
        )
        .is_err()
        {
            let _ = ready!(Pin::new(self.0.transport.tcp()).poll_shutdown(cx));
        }
        Poll::Ready(Ok(()))
    }
}

fn timed_out(timeout: Duration) -> io::Error {
    let reason = format!("the peer took no byte of its response for {timeout:?}; see [http] write-timeout-ms");
    io::Error::new(io::ErrorKind::TimedOut, reason)
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the connection was closed by this node")
}
