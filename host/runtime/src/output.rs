//! Standard output and error of a handler, as lines in the host's log, with app, instance and event.
//!
//! Lines, and the output of one event, are bounded. The end of standard error is kept for the trap report, since a panic
//! writes its message there.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use plugnode_message::{EventId, Namespace};

/// Longest line, in bytes; a longer one is split.
const MAX_LINE: usize = 4 << 10;
/// Most bytes that one event writes to the log.
const MAX_EVENT: usize = 64 << 10;
/// Bytes that a line costs besides its text, for the time and fields before it: otherwise an event could log 64 thousand lines.
const LINE_COST: usize = 64;
/// Bytes of standard error that are kept for a trap report.
const STDERR_TAIL: usize = 4 << 10;
/// Most bytes of one write.
const MAX_WRITE: usize = 64 << 10;

/// The output of one instance. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Output(Arc<Mutex<Lines>>);

#[derive(Debug)]
struct Lines {
    app: Namespace,
    instance: u32,
    event: Option<EventId>,
    /// Bytes that the event may still write.
    left: usize,
    is_truncated: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    stderr_tail: VecDeque<u8>,
}

/// A standard stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A standard stream as wasmtime writes to it.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    output: Output,
    stream: Stream,
}

impl Output {
    pub(crate) fn new(app: Namespace, instance: u32) -> Self {
        Self(Arc::new(Mutex::new(Lines {
            app,
            instance,
            event: None,
            left: MAX_EVENT,
            is_truncated: false,
            stdout: Vec::new(),
            stderr: Vec::new(),
            stderr_tail: VecDeque::new(),
        })))
    }

    pub(crate) fn writer(&self, stream: Stream) -> Writer {
        Writer {
            output: self.clone(),
            stream,
        }
    }

    /// Starts the output of this event, or of a call without an event.
    pub(crate) fn begin(&self, event: Option<EventId>) {
        let mut lines = self.0.lock();
        lines.event = event;
        lines.left = MAX_EVENT;
        lines.is_truncated = false;
        lines.stderr_tail.clear();
    }

    /// Logs incomplete lines, at the end of a call.
    pub(crate) fn end(&self) {
        self.0.lock().end();
    }

    /// The end of the event's standard error.
    pub(crate) fn stderr_tail(&self) -> String {
        let mut lines = self.0.lock();
        String::from_utf8_lossy(lines.stderr_tail.make_contiguous())
            .trim()
            .to_owned()
    }

    /// Charges another log line of this length to this event, and returns whether it may still write it.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let cost = bytes + LINE_COST;
        self.0.lock().take(cost) == cost
    }
}

impl Lines {
    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Stderr {
            let kept = &bytes[bytes.len().saturating_sub(STDERR_TAIL)..];
            let over = (self.stderr_tail.len() + kept.len()).saturating_sub(STDERR_TAIL);
            self.stderr_tail.drain(..over);
            self.stderr_tail.extend(kept);
        }
        let taken = self.take(bytes.len());
        for piece in bytes[..taken].split_inclusive(|byte| *byte == b'\n') {
            self.add(stream, piece);
        }
    }

    /// Adds a piece of at most one line.
    fn add(&mut self, stream: Stream, mut piece: &[u8]) {
        loop {
            let line = if stream == Stream::Stdout {
                &mut self.stdout
            } else {
                &mut self.stderr
            };
            let room = MAX_LINE - line.len();
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
        self.left = self.left.saturating_sub(LINE_COST);
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
        if taken < bytes && !self.is_truncated {
            self.is_truncated = true;
            tracing::warn!(
                app = %self.app,
                instance = self.instance,
                messaging.message.id = self.event.map(tracing::field::display),
                "the handler wrote more than {} KB for one event; the rest is not logged",
                MAX_EVENT >> 10
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
        self.output.0.lock().write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_WRITE)
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.output.0.lock().write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
