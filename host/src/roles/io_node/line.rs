//! The way to a client of what a session sends: its websocket, or the engine, where it waits for a poll.

use std::sync::{Arc, Weak};
use std::task::Waker;

use bytes::Bytes;
use engineioxide::{DisconnectReason, Socket};

use super::codec::Revision;
use super::encoded::Encoded;
use super::session::Seat;
use crate::http::Connection;

/// Where packets go.
pub(super) enum Line {
    Polling {
        socket: Weak<Socket<Seat>>,
        /// That the last poll came on. Behind a server that is not ours there is none to be seen.
        connection: Option<Arc<Connection>>,
    },
    WebSocket {
        connection: Arc<Connection>,
        outgoing: Outgoing,
    },
}

/// What is to be written to a websocket.
#[derive(Default)]
pub(super) struct Outgoing {
    frames: Vec<Bytes>,
    writer: Option<Waker>,
    /// Whether the writer has been woken since it last was here.
    is_woken: bool,
}

impl Line {
    /// A websocket.
    pub(super) fn websocket(connection: Arc<Connection>) -> Self {
        Self::WebSocket {
            connection,
            outgoing: Outgoing::default(),
        }
    }

    /// Sends a packet, and says whether there is anybody to send it to.
    pub(super) fn send(&mut self, packet: Encoded, revision: Revision) -> bool {
        match self {
            Self::Polling { socket, .. } => socket
                .upgrade()
                .is_some_and(|socket| send_by_engine(&socket, packet, revision)),
            Self::WebSocket { outgoing, .. } => {
                outgoing.push(packet, revision);
                true
            }
        }
    }

    /// Takes the frames that are to be written, and has the writer woken for the next.
    pub(super) fn unsent_until(&mut self, writer: &Waker) -> Vec<Bytes> {
        match self {
            Self::Polling { .. } => Vec::new(),
            Self::WebSocket { outgoing, .. } => outgoing.take_until(writer),
        }
    }

    /// The connection that is there now.
    pub(super) fn connection(&self) -> Option<&Arc<Connection>> {
        match self {
            Self::Polling { connection, .. } => connection.as_ref(),
            Self::WebSocket { connection, .. } => Some(connection),
        }
    }
}

impl Outgoing {
    fn push(&mut self, packet: Encoded, revision: Revision) {
        packet.add_to(&mut self.frames, revision);
        if !self.is_woken
            && let Some(writer) = &self.writer
        {
            self.is_woken = true;
            writer.wake_by_ref();
        }
    }

    fn take_until(&mut self, writer: &Waker) -> Vec<Bytes> {
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
    let attachments = packet.attachments;
    match (text, revision) {
        (Some(text), Revision::V5) => permit.emit_many(text, attachments.into()),
        (None, Revision::V5) => {
            let mut attachments = attachments.into_iter();
            if let Some(first) = attachments.next() {
                permit.emit_many_binary(first, attachments.collect());
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
