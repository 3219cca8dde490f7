//! A websocket of a client: messages in, frames out.
//!
//! What comes in is read by tungstenite. What goes out are frames that others made, once for any number of clients, and
//! they are written from where they are. So an idle websocket keeps hardly more than its place in a message. It is one
//! thing for its owner to poll, and knows neither Engine.IO nor sessions, which are in `talk`.

pub(super) mod frame;
mod heartbeat;
mod talk;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::Message;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use crate::http::{Connection, Stream};

pub(super) use self::talk::{Talk, Terms};

/// The room to read into. Small, because each websocket keeps as much.
const READ_BUFFER: usize = 256;
/// The room for answers to pings and to the end.
const ANSWERS: usize = 512;
/// How many frames are written at once.
const AT_ONCE: usize = 64;

/// A websocket.
pub(super) struct WebSocket {
    stream: Stream,
    frames: WebSocketContext,
    unwritten: VecDeque<Bytes>,
    /// Whether something was written that may not be on its way.
    unflushed: bool,
}

/// What a client says.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    Text(tungstenite::Utf8Bytes),
    Binary(Bytes),
    /// It closes the websocket.
    Goodbye,
}

impl WebSocket {
    /// Over this stream, with messages of at most so many bytes.
    pub(super) fn new(stream: Stream, max_message: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(ANSWERS)
            .max_message_size(Some(max_message))
            .max_frame_size(Some(max_message));
        Self {
            stream,
            frames: WebSocketContext::new(Role::Server, Some(config)),
            unwritten: VecDeque::new(),
            unflushed: false,
        }
    }

    /// The connection that it is on.
    pub(super) fn connection(&self) -> &Arc<Connection> {
        self.stream.connection()
    }

    /// Takes a frame that is to be written.
    pub(super) fn push(&mut self, frame: Bytes) {
        self.unwritten.push_back(frame);
    }

    /// Takes frames that are to be written.
    pub(super) fn push_all(&mut self, frames: Vec<Bytes>) {
        match self.unwritten.is_empty() {
            true => self.unwritten = frames.into(),
            false => self.unwritten.extend(frames),
        }
    }

    /// Gives what the client says next, and answers its pings meanwhile. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Said, tungstenite::Error> {
        poll_fn(|cx| {
            let said = self.poll_said(cx);
            match self.poll_write(cx) {
                Poll::Ready(Err(error)) if said.is_pending() => Poll::Ready(Err(error.into())),
                _ => said,
            }
        })
        .await
    }

    /// Writes what is left.
    pub(super) async fn write(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_write(cx)).await
    }

    /// Writes what is left, says goodbye, and ends the connection.
    pub(super) async fn close(mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_close(cx)).await
    }

    /// Writes, until nothing is left.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(first) = self.unwritten.front() {
            let stream = Pin::new(&mut self.stream);
            let written = if self.unwritten.len() == 1 {
                ready!(stream.poll_write(cx, first))?
            } else {
                let mut slices = [IoSlice::new(&[]); AT_ONCE];
                let count = self.unwritten.len().min(AT_ONCE);
                for (slice, frame) in slices.iter_mut().zip(&self.unwritten) {
                    *slice = IoSlice::new(frame);
                }
                ready!(stream.poll_write_vectored(cx, &slices[..count]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.wrote(written);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
            self.unwritten = VecDeque::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Gives what the client says next, when it is said to its end. Nothing comes while the connection is paused.
    pub(super) fn poll_said(&mut self, cx: &mut Context<'_>) -> Poll<Result<Said, tungstenite::Error>> {
        loop {
            ready!(self.connection().poll_unpaused(cx));
            if self.connection().is_closed() {
                return Poll::Ready(Err(tungstenite::Error::ConnectionClosed));
            }
            let mut wire = Wire {
                stream: &mut self.stream,
                unwritten: &mut self.unwritten,
                cx,
            };
            let said = match self.frames.read(&mut wire) {
                Ok(Message::Text(text)) => Said::Text(text),
                Ok(Message::Binary(data)) => Said::Binary(data),
                Ok(Message::Close(_)) => Said::Goodbye,
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
                Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Poll::Pending;
                }
                Err(error) => return Poll::Ready(Err(error)),
            };
            return Poll::Ready(Ok(said));
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // Of a client that says goodbye, the answer is waiting to be written.
            let mut wire = Wire {
                stream: &mut self.stream,
                unwritten: &mut self.unwritten,
                cx,
            };
            let said = match self.frames.can_write() {
                true => self.frames.close(&mut wire, None),
                false => self.frames.flush(&mut wire),
            };
            ready!(self.poll_write(cx))?;
            match said {
                // There was no room for it before what is now written.
                Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return Pin::new(&mut self.stream).poll_shutdown(cx),
            }
        }
    }

    /// Forgets what was written.
    fn wrote(&mut self, mut bytes: usize) {
        while let Some(first) = self.unwritten.front_mut() {
            if bytes < first.len() {
                first.advance(bytes);
                return;
            }
            bytes -= first.len();
            self.unwritten.pop_front();
        }
    }
}

/// What tungstenite reads from, and answers pings to: answers wait for their turn like all that is written.
struct Wire<'a, 'b> {
    stream: &'a mut Stream,
    unwritten: &'a mut VecDeque<Bytes>,
    cx: &'a mut Context<'b>,
}

impl Read for Wire<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut *self.stream).poll_read(self.cx, &mut buffer) {
            Poll::Ready(read) => read.map(|()| buffer.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Wire<'_, '_> {
    /// While the client does not read, there is one answer to all of its pings.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.unwritten.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.unwritten.push_back(Bytes::copy_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
