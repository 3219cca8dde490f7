//! An Engine.IO server for protocols 3 and 4: sessions over HTTP polling and websockets, the upgrade from polling to a
//! websocket, heartbeats, and the close. <https://socket.io/docs/v4/engine-io-protocol/>
//!
//! It knows neither Socket.IO nor an HTTP server: an [`Engine`] answers hyper's requests, and an [`Application`] gets the
//! sessions. In the order in which a message travels:
//!
//! - `engine` dispatches a request, `request` parses it, and `poll`, `post` or `upgrade` serves it;
//! - `websocket` and `codec` decode packets from bytes;
//! - `task` owns a session: it gives messages to the application's [`Handler`], one after the other;
//! - `session` is the application's handle: it holds the queue of packets to be sent;
//! - `packet` is an outgoing packet, encoded once for any number of sessions;
//! - `closing` ends a session: it calls the handler, and closes the websocket or answers the last polls.
//!
//! [`Gcra`] is the rate limit of control packets; applications may use it too.
//!
//! Guarantees:
//!
//! - Messages arrive once and in order, also during an upgrade. A session that cannot keep this promise ends.
//! - Backpressure: a paused session is not read from its websocket, and its POST is not answered. The same happens while the
//!   client leaves more than [`Settings::send_buffer`] unread.
//! - Memory for what a client sends or leaves unread is bounded in bytes by [`Settings`].
//! - A client that makes progress and answers pings in time stays, however slow it is; one that makes none ends in time. As
//!   with Node's server, a message that takes longer to transfer than a client may take to answer a ping ends the session.
//! - A session that ends sends its client a close: a close frame with a status code, or a close packet in answer to a poll.

mod application;
mod budget;
mod close_reason;
mod closing;
mod codec;
mod engine;
mod frame;
mod gcra;
mod handler_guard;
mod heartbeat;
mod message;
mod opening_request;
mod packet;
mod peer;
mod poll;
mod poll_delivery;
mod post;
mod refusal;
mod registry;
mod request;
mod response;
mod session;
mod settings;
mod task;
mod upgrade;
mod version;
mod websocket;

pub use application::{Application, Handler};
pub use close_reason::CloseReason;
pub use engine::{AcceptedHandshake, Engine};
pub use gcra::Gcra;
pub use message::Message;
pub use opening_request::OpeningRequest;
pub use packet::Packet;
pub use peer::{Peer, network};
pub use refusal::{Refusal, UnknownSession};
pub use response::Body;
pub use session::{SendError, Session};
pub use settings::{ClientTransport, MIN_BODY_RATE, SEND_BURST, STALL_TIMEOUT, Settings};
pub use version::Version;
pub use websocket::Stream;
