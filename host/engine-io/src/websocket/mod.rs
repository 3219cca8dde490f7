//! A client's websocket: messages in, frames out.
//!
//! Outgoing frames are shared with other websockets and are written without a copy. Input is stored only while a message is
//! unfinished. So an idle websocket takes little more memory than its stream. It is polled by one owner, and knows nothing of
//! sessions.

mod decoder;
pub(crate) mod handshake;

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use self::decoder::Decoder;
pub(crate) use self::decoder::{DecodeError, WebSocketEvent};
use crate::budget::Share;
use crate::frame;
use crate::packet::{OVERHEAD, Packet};
use crate::version::Version;

/// Bytes read at once.
const READ_BUFFER: usize = 16 * 1024;
/// Parts of frames written at once.
const WRITE_SLICES: usize = 64;
/// Bytes that may still arrive after the close was sent: more than the buffers of both kernels hold. A client that sends more
/// ignores the close.
const MAX_AFTER_CLOSE: usize = 16 << 20;

/// The byte stream under a websocket: for example a TCP socket, or TLS on one.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

pub(crate) struct WebSocket {
    stream: Box<dyn Stream>,
    /// Whether the client wants binary data as base64 text.
    base64: bool,
    decoder: Decoder,
    /// Bytes read, not all of them decoded.
    input: Vec<u8>,
    /// Number of bytes of `input` that are decoded.
    decoded: usize,
    unwritten: VecDeque<Bytes>,
    /// Total bytes of `unwritten`.
    unwritten_bytes: usize,
    /// The answer to the latest ping, written when nothing else is left. It replaces an earlier one, so that pings take bounded
    /// memory.
    pong: Option<Bytes>,
    /// Bytes read and discarded while the websocket is being closed.
    discarded: usize,
    is_unflushed: bool,
}

/// Why a websocket cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebSocketError {
    #[error("the connection ended")]
    Ended,
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket")
            .field("unwritten", &self.unwritten_bytes)
            .finish_non_exhaustive()
    }
}

impl WebSocket {
    /// A websocket on a stream from which the bytes `read` were read already.
    pub(crate) fn new(stream: impl Stream, read: &[u8], base64: bool, max_message: usize, share: Share) -> Self {
        Self {
            stream: Box::new(stream),
            base64,
            decoder: Decoder::new(max_message, share),
            input: read.to_vec(),
            decoded: 0,
            unwritten: VecDeque::new(),
            unwritten_bytes: 0,
            pong: None,
            discarded: 0,
            is_unflushed: false,
        }
    }

    /// Queues a packet.
    pub(crate) fn send(&mut self, packet: Packet, version: Version) {
        packet.into_frames(version, self.base64, |frame| self.push(frame));
    }

    /// Queues a frame, or a part of one.
    fn push(&mut self, frame: Bytes) {
        self.unwritten_bytes += frame.len();
        self.unwritten.push_back(frame);
    }

    /// Bytes that wait to be written, with an overhead for each frame.
    pub(crate) fn cost(&self) -> usize {
        self.unwritten_bytes + self.unwritten.len() * OVERHEAD
    }

    /// Reads the next event. Pings are answered.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<WebSocketEvent, WebSocketError>> {
        loop {
            if self.decoded < self.input.len() {
                let (taken, event) = self.decoder.decode(&self.input[self.decoded..])?;
                self.decoded += taken;
                if self.decoded == self.input.len() {
                    self.input = Vec::new();
                    self.decoded = 0;
                }
                if let Some(event) = event {
                    return Poll::Ready(Ok(self.answer_ping(event)));
                }
                // An incomplete header.
                self.input.drain(..self.decoded);
                self.decoded = 0;
            }
            let mut buffer = [MaybeUninit::uninit(); READ_BUFFER];
            let mut buffer = ReadBuf::uninit(&mut buffer);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            let read = buffer.filled();
            if read.is_empty() {
                return Poll::Ready(Err(WebSocketError::Ended));
            }
            if !self.input.is_empty() {
                self.input.extend_from_slice(read);
                continue;
            }
            let (taken, event) = self.decoder.decode(read)?;
            self.input = read[taken..].to_vec();
            if let Some(event) = event {
                return Poll::Ready(Ok(self.answer_ping(event)));
            }
        }
    }

    /// Writes until nothing is left. [`cost`](Self::cost) shows the progress.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.unwritten.is_empty() {
                match self.pong.take() {
                    Some(pong) => self.push(pong),
                    None => break,
                }
            }
            let stream = Pin::new(&mut self.stream);
            let written = if self.unwritten.len() == 1 {
                ready!(stream.poll_write(cx, &self.unwritten[0]))?
            } else {
                let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
                let count = self.unwritten.len().min(WRITE_SLICES);
                for (slice, frame) in slices.iter_mut().zip(&self.unwritten) {
                    *slice = IoSlice::new(frame);
                }
                ready!(stream.poll_write_vectored(cx, &slices[..count]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.is_unflushed = true;
            self.advance(written);
        }
        if self.is_unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.is_unflushed = false;
            self.unwritten = VecDeque::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Writes the remaining frames and a close frame, and waits for the client's close. Input is read and discarded meanwhile:
    /// unread input would make the kernel reset the connection before the client has read the close. `step_timeout` limits the
    /// wait for the client's close, and that for each part of the remaining frames. A client that sends more than
    /// [`MAX_AFTER_CLOSE`] is cut off.
    pub(crate) async fn close(mut self, code: Option<u16>, step_timeout: Duration) -> io::Result<()> {
        self.pong = None;
        self.input = Vec::new();
        self.decoder.discard();
        self.push(frame::close(code));
        loop {
            let before = self.cost();
            let written = timeout(
                step_timeout,
                poll_fn(|cx| {
                    let _ = self.poll_discard_input(cx);
                    match self.poll_write(cx) {
                        Poll::Pending if self.cost() < before => Poll::Ready(Ok(false)),
                        written => written.map_ok(|()| true),
                    }
                }),
            );
            if written.await?? {
                break;
            }
        }
        let ended = async {
            poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await?;
            poll_fn(|cx| self.poll_discard_input(cx)).await
        };
        timeout(step_timeout, ended).await?
    }

    fn poll_discard_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.discarded <= MAX_AFTER_CLOSE {
            let mut buffer = [MaybeUninit::uninit(); READ_BUFFER];
            let mut buffer = ReadBuf::uninit(&mut buffer);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.discarded += buffer.filled().len();
        }
        Poll::Ready(Err(io::Error::other("the client keeps sending after the close")))
    }

    fn answer_ping(&mut self, event: WebSocketEvent) -> WebSocketEvent {
        if let WebSocketEvent::Ping(payload) = &event {
            self.pong = Some(frame::pong(payload));
        }
        event
    }

    /// Removes written bytes from the queue.
    fn advance(&mut self, mut bytes: usize) {
        self.unwritten_bytes -= bytes;
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
