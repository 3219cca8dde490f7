//! An Engine.IO server, for protocols 3 and 4: sessions over HTTP polling and websockets, the upgrade from one to the other,
//! heartbeats and the close. <https://socket.io/docs/v4/engine-io-protocol/>
//!
//! It knows no Socket.IO and no HTTP server: an [`Engine`] is given hyper's requests and answers them; an [`Application`] is
//! given sessions. Read on in the order in which a message travels:
//!
//! - `engine` takes a request, `request` reads what it asks, `polling` or `upgrade` does it;
//! - `websocket` and `codec` make packets of bytes;
//! - `task` owns a session: it gives messages to the application, one after the other;
//! - `session` is what the application sends by, and holds what waits to be sent;
//! - `packet` is what is sent, encoded once for any number of sessions.
//!
//! What it guarantees:
//!
//! - Messages arrive once and in order, also over an upgrade, whatever waits meanwhile. A session that cannot keep this ends.
//! - An application that pauses a session slows its client by the client's own connection: a websocket is not read, a POST
//!   is not answered. So does a client itself that takes less than it asks for.
//! - Whatever a client sends or leaves unread, memory for it is bounded in bytes: [`Settings`] says by what.
//! - A client that makes progress and answers pings in time stays, however slow it is; one that makes none ends in time. A message that
//!   is longer on its way than a client may take to answer a ping ends it, as with Node's server.
//! - A session that is ended tells its client: by a close frame with its status, or by a close packet to a poll.

mod answer;
mod budget;
mod codec;
mod engine;
mod frame;
mod heartbeat;
mod opening;
mod pace;
mod packet;
mod polling;
mod registry;
mod request;
mod session;
mod settings;
mod task;
mod upgrade;
mod websocket;

use bytes::Bytes;
use bytestring::ByteString;
use http::{Extensions, HeaderMap};

pub use answer::Body;
pub use engine::{Accepted, Engine};
pub use opening::{Opening, Peer, network};
pub use packet::Packet;
pub use request::{Refusal, UnknownSession};
pub use session::{SendError, Session};
pub use settings::{BODY_RATE, BURST, STALL, Settings};
pub use websocket::Stream;

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// Of Socket.IO 1 and 2: the client pings.
    V3,
    /// Of Socket.IO 3 and 4: the server pings.
    V4,
}

/// What a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A text.
    Text(ByteString),
    /// Binary data.
    Binary(Bytes),
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client closed it, by a packet or by a close frame.
    #[error("the client closed it")]
    Client,
    /// The connection ended without a close.
    #[error("the connection ended")]
    TransportClose,
    /// The connection broke, or polls and POSTs came that cannot be in order.
    #[error("the connection broke")]
    TransportError,
    /// The client did not answer a ping in time, or sent none.
    #[error("the client is silent")]
    PingTimeout,
    /// The client sent what the protocol does not know.
    #[error("the client sent what is no packet")]
    ParseError,
    /// A message was larger than [`Settings::max_payload`].
    #[error("a message is larger than max-payload")]
    TooLarge,
    /// More pings, pongs or fragments came than [`Settings::control_packets_per_second`].
    #[error("the client sends too many packets that are no messages")]
    Flood,
    /// The client does not take what it is sent.
    #[error("the client does not take what it is sent")]
    SlowReader,
    /// Its address, or all together, hold too much of [`Settings::unfinished_bytes`].
    #[error("the server holds too many unfinished messages")]
    Overloaded,
    /// The application closed it.
    #[error("the application closed it")]
    Server,
    /// The engine was shut down.
    #[error("the server shuts down")]
    Shutdown,
}

/// What an engine serves.
pub trait Application: Send + Sync + 'static {
    /// What takes the messages of one session.
    type Handler: Handler;

    /// The id of a session that begins, from the headers of its request. None for a random one of twenty characters. It must
    /// be unique, and hard to guess: who knows it can speak in the session. A request whose id is taken is refused.
    fn session_id(&self, _headers: &HeaderMap) -> Option<String> {
        None
    }

    /// Takes a session that begins, with the extensions of its request. What is sent here arrives behind the open packet.
    ///
    /// # Errors
    /// Why it does not take the session: [`Refusal::Forbidden`].
    fn open(&self, session: Session, extensions: &Extensions) -> Result<Self::Handler, Refusal>;
}

/// What takes the messages of one session. All calls come from the session's task, one after the other.
pub trait Handler: Send + 'static {
    /// A POST came with so many texts, which are given next, as long as the session is open. It is told in protocol 4, where
    /// counting them is cheap.
    fn burst(&mut self, _messages: usize) {}

    /// Takes a message. To take no more for now, it [pauses](Session::pause) the session.
    fn message(&mut self, message: Message);

    /// The session has ended: the last call.
    fn close(self, reason: CloseReason);
}

impl CloseReason {
    /// Whether the client may hear of it.
    pub(crate) fn is_told(self) -> bool {
        !matches!(self, Self::TransportClose | Self::TransportError | Self::SlowReader)
    }

    /// Whether the client gets what was sent before.
    pub(crate) fn leaves_packets(self) -> bool {
        matches!(self, Self::Server | Self::Shutdown)
    }
}
