//! What a handler writes to standard output and error: lines in the host's log, with app, instance and event.
//!
//! A handler can write for ever, so a line and what one event writes are bounded. The end of standard error is kept
//! besides, for the report in case the event breaks the instance: a panic says there what it is about.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use plugnode_message::{EventId, Namespace};

/// Bytes of a line; what is longer is broken into several.
const LINE: usize = 4 << 10;
/// Bytes that one event may put into the log.
const EVENT: usize = 64 << 10;
/// Bytes of standard error that are kept for a report.
const TAIL: usize = 4 << 10;
/// Bytes that a handler may give to one write.
const WRITE: usize = 64 << 10;

/// The output of one instance. Clones are the same output.
#[derive(Debug, Clone)]
pub(super) struct Output(Arc<Mutex<Lines>>);

#[derive(Debug)]
struct Lines {
    app: Namespace,
    instance: u32,
    event: Option<EventId>,
    left: usize,
    cut: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    tail: VecDeque<u8>,
}

/// Which of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// One of the two streams, as the handler gets it.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    output: Output,
    stream: Stream,
}

impl Output {
    pub(super) fn new(app: Namespace, instance: u32) -> Self {
        Self(Arc::new(Mutex::new(Lines {
            app,
            instance,
            event: None,
            left: EVENT,
            cut: false,
            stdout: Vec::new(),
            stderr: Vec::new(),
            tail: VecDeque::new(),
        })))
    }

    pub(super) fn writer(&self, stream: Stream) -> Writer {
        Writer {
            output: self.clone(),
            stream,
        }
    }

    /// From here on, what is written belongs to this event, or to a call outside of one.
    pub(super) fn begin(&self, event: Option<EventId>) {
        let mut lines = self.lock();
        lines.event = event;
        lines.left = EVENT;
        lines.cut = false;
        lines.tail.clear();
    }

    /// Logs lines that have no end yet.
    pub(super) fn end(&self) {
        self.lock().end();
    }

    /// The end of standard error since the event began.
    pub(super) fn stderr_tail(&self) -> String {
        let mut lines = self.lock();
        String::from_utf8_lossy(lines.tail.make_contiguous()).trim().to_owned()
    }

    /// Takes bytes for the log out of what this event may use, and says whether there were enough.
    pub(super) fn take(&self, bytes: usize) -> bool {
        self.lock().take(bytes) == bytes
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Stderr {
            let kept = &bytes[bytes.len().saturating_sub(TAIL)..];
            let over = (self.tail.len() + kept.len()).saturating_sub(TAIL);
            self.tail.drain(..over);
            self.tail.extend(kept);
        }
        let taken = self.take(bytes.len());
        for piece in bytes[..taken].split_inclusive(|byte| *byte == b'\n') {
            self.add(stream, piece);
        }
    }

    /// Adds what is no more than one line.
    fn add(&mut self, stream: Stream, mut piece: &[u8]) {
        loop {
            let line = if stream == Stream::Stdout {
                &mut self.stdout
            } else {
                &mut self.stderr
            };
            let room = LINE - line.len();
            if piece.len() <= room {
                line.extend_from_slice(piece);
                break;
            }
            line.extend_from_slice(&piece[..room]);
            piece = &piece[room..];
            self.log(stream);
        }
        if piece.ends_with(b"\n") {
            self.log(stream);
        }
    }

    fn end(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.log(stream);
        }
    }

    fn log(&mut self, stream: Stream) {
        let line = match stream {
            Stream::Stdout => std::mem::take(&mut self.stdout),
            Stream::Stderr => std::mem::take(&mut self.stderr),
        };
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if text.is_empty() {
            return;
        }
        let (app, instance) = (&self.app, self.instance);
        let event = self.event.map(tracing::field::display);
        match stream {
            Stream::Stdout => {
                tracing::info!(%app, instance, messaging.message.id = event, stream = "stdout", "{text}");
            }
            Stream::Stderr => {
                tracing::warn!(%app, instance, messaging.message.id = event, stream = "stderr", "{text}");
            }
        }
    }

    fn take(&mut self, bytes: usize) -> usize {
        let taken = bytes.min(self.left);
        self.left -= taken;
        if taken < bytes && !self.cut {
            self.cut = true;
            tracing::warn!(
                app = %self.app,
                instance = self.instance,
                messaging.message.id = self.event.map(tracing::field::display),
                "the handler wrote more than {} KB for one event; the rest is not logged",
                EVENT >> 10
            );
        }
        taken
    }
}

impl IsTerminal for Writer {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Writer {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.output.lock().write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE)
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.output.lock().write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
