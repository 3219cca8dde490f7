//! The way to a client of what a session sends: its websocket, or the engine.

use std::sync::{Arc, Weak};
use std::task::Waker;

use bytes::Bytes;
use engineioxide::{DisconnectReason, Socket};

use super::codec::Revision;
use super::encoded::Encoded;
use super::session::Seat;

/// Where packets go.
pub(super) enum Line {
    /// To the engine: of a session that polls, or has its websocket by a server that is not ours.
    Engine(Weak<Socket<Seat>>),
    /// To a websocket of ours.
    WebSocket(Outgoing),
}

/// What is to be written to a websocket.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) frames: Vec<Bytes>,
    writer: Option<Waker>,
    /// Whether the writer has been woken since it last was here.
    is_woken: bool,
}

impl Line {
    /// Sends a packet, and says whether there is anybody to send it to.
    pub(super) fn send(&mut self, packet: Encoded, revision: Revision) -> bool {
        match self {
            Self::Engine(socket) => socket
                .upgrade()
                .is_some_and(|socket| send_by_engine(&socket, packet, revision)),
            Self::WebSocket(outgoing) => {
                outgoing.push(packet.frames(revision));
                true
            }
        }
    }

    /// The engine's socket, if there is one.
    pub(super) fn socket(&self) -> Option<Arc<Socket<Seat>>> {
        match self {
            Self::Engine(socket) => socket.upgrade(),
            Self::WebSocket(_) => None,
        }
    }
}

impl Outgoing {
    fn push(&mut self, frames: impl Iterator<Item = Bytes>) {
        self.frames.extend(frames);
        if !self.is_woken
            && let Some(writer) = &self.writer
        {
            self.is_woken = true;
            writer.wake_by_ref();
        }
    }

    /// Gives what is to be written, and has the writer woken for the next.
    pub(super) fn take_until(&mut self, writer: &Waker) -> Vec<Bytes> {
        match &mut self.writer {
            Some(known) => known.clone_from(writer),
            None => self.writer = Some(writer.clone()),
        }
        self.is_woken = false;
        std::mem::take(&mut self.frames)
    }
}

/// Ends what the engine has of a session.
pub(super) fn close(socket: &Socket<Seat>) {
    socket.close(DisconnectReason::TransportClose);
}

fn send_by_engine(socket: &Socket<Seat>, packet: Encoded, revision: Revision) -> bool {
    let Ok(permit) = socket.reserve() else { return false };
    let text = packet.text();
    let mut attachments = packet.attachments;
    match (text, revision) {
        (Some(text), Revision::V5) => permit.emit_many(text, attachments),
        (None, Revision::V5) => {
            if let Some(data) = attachments.pop_front() {
                permit.emit_binary(data);
            }
        }
        // Only by itself does the engine encode binary data for old clients.
        (text, Revision::V4) => {
            if let Some(text) = text {
                permit.emit(text);
            }
            for data in attachments {
                // Fails only when the session is over.
                let _ = socket.emit_binary(data);
            }
        }
    }
    true
}
