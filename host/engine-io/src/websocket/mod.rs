//! A websocket of a client: messages in, frames out.
//!
//! What goes out are frames that were made once for any number of clients, and they are written from where they are. What
//! comes in is kept only while a message is unfinished. So an idle websocket keeps hardly more than its stream. It has one
//! owner, who polls it, and knows nothing of sessions.

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
pub(crate) use self::decoder::{Broken, Event};
use crate::Version;
use crate::budget::Share;
use crate::frame;
use crate::packet::{OVERHEAD, Packet};

/// How much is read at once.
const READ: usize = 16 * 1024;
/// How many parts of frames are written at once.
const WRITE: usize = 64;
/// How much may still come of a client that is told the close. More than the buffers of both kernels hold is not on its way any more: it
/// goes on sending, and hears nothing.
const AFTER_CLOSE: usize = 16 << 20;

/// The stream of bytes that a websocket is spoken on: a socket, TLS on one, or what a server had before.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

pub(crate) struct WebSocket {
    stream: Box<dyn Stream>,
    /// Whether its client wants binary data as text.
    base64: bool,
    decoder: Decoder,
    /// What was read and not decoded.
    input: Vec<u8>,
    /// How much of it was.
    decoded: usize,
    unwritten: VecDeque<Bytes>,
    /// Their bytes.
    unwritten_bytes: usize,
    /// The answer to the latest ping, when there is no room for it yet. So pings take no more than this.
    pong: Option<Bytes>,
    /// How much was read and dropped because the websocket is being closed.
    dropped: usize,
    is_unflushed: bool,
}

/// Why a websocket ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the connection ended")]
    Ended,
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Broken(#[from] Broken),
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket")
            .field("unwritten", &self.unwritten_bytes)
            .finish_non_exhaustive()
    }
}

impl WebSocket {
    /// On a stream from which some was read already, with messages of at most so many bytes.
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
            dropped: 0,
            is_unflushed: false,
        }
    }

    /// Takes a packet that is to be written.
    pub(crate) fn send(&mut self, packet: Packet, version: Version) {
        packet.into_frames(version, self.base64, |frame| self.push(frame));
    }

    /// Takes a frame, or a part of one.
    fn push(&mut self, frame: Bytes) {
        self.unwritten_bytes += frame.len();
        self.unwritten.push_back(frame);
    }

    /// What waits to be written costs so much.
    pub(crate) fn cost(&self) -> usize {
        self.unwritten_bytes + self.unwritten.len() * OVERHEAD
    }

    /// Gives what the client sends next, and keeps the answers to its pings.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Failure>> {
        loop {
            if self.decoded < self.input.len() {
                let (taken, event) = self.decoder.decode(&self.input[self.decoded..])?;
                self.decoded += taken;
                if self.decoded == self.input.len() {
                    self.input = Vec::new();
                    self.decoded = 0;
                }
                if let Some(event) = event {
                    return Poll::Ready(Ok(self.note(event)));
                }
                // A header of which the end is missing.
                self.input.drain(..self.decoded);
                self.decoded = 0;
            }
            let mut buffer = [MaybeUninit::uninit(); READ];
            let mut buffer = ReadBuf::uninit(&mut buffer);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            let read = buffer.filled();
            if read.is_empty() {
                return Poll::Ready(Err(Failure::Ended));
            }
            if !self.input.is_empty() {
                self.input.extend_from_slice(read);
                continue;
            }
            let (taken, event) = self.decoder.decode(read)?;
            self.input = read[taken..].to_vec();
            if let Some(event) = event {
                return Poll::Ready(Ok(self.note(event)));
            }
        }
    }

    /// Writes until nothing is left. How far that came, [`cost`](Self::cost) tells.
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
                let mut slices = [IoSlice::new(&[]); WRITE];
                let count = self.unwritten.len().min(WRITE);
                for (slice, frame) in slices.iter_mut().zip(&self.unwritten) {
                    *slice = IoSlice::new(frame);
                }
                ready!(stream.poll_write_vectored(cx, &slices[..count]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.is_unflushed = true;
            self.wrote(written);
        }
        if self.is_unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.is_unflushed = false;
            self.unwritten = VecDeque::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what is left and a close, and waits for the client's. What it sends meanwhile is read and dropped: unread, it
    /// would make the kernel reset the connection before the client has read the close. The client has so much time for
    /// that, and as much again for each part of what is left. One that sends more than [`AFTER_CLOSE`] meanwhile is cut off.
    pub(crate) async fn close(mut self, code: Option<u16>, patience: Duration) -> io::Result<()> {
        self.pong = None;
        self.input = Vec::new();
        self.decoder.forget();
        self.push(frame::close(code));
        loop {
            let before = self.cost();
            let written = timeout(
                patience,
                poll_fn(|cx| {
                    let _ = self.poll_drop_input(cx);
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
            poll_fn(|cx| self.poll_drop_input(cx)).await
        };
        timeout(patience, ended).await?
    }

    fn poll_drop_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.dropped <= AFTER_CLOSE {
            let mut buffer = [MaybeUninit::uninit(); READ];
            let mut buffer = ReadBuf::uninit(&mut buffer);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.dropped += buffer.filled().len();
        }
        Poll::Ready(Err(io::Error::other("the client goes on sending after the close")))
    }

    fn note(&mut self, event: Event) -> Event {
        if let Event::Ping(payload) = &event {
            self.pong = Some(frame::pong(payload));
        }
        event
    }

    /// Forgets what was written.
    fn wrote(&mut self, mut bytes: usize) {
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

impl Broken {
    /// The status code of the close that tells it.
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::NotUtf8 => 1007,
            Self::TooLarge => 1009,
            Self::Exhausted(_) => 1013,
        }
    }
}
