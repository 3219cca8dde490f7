//! The test kit: handlers run natively, under `cargo test`, in a plugnode that is one value in memory.
//!
//! A [`Kit`] holds instances of a handler, clients with their channels and inboxes, and buckets. It feeds one event at
//! a time and carries out its effects as plugnode would: whole when the handler returns `Ok`, not at all otherwise.
//!
//! ```
//! use plugnode_sdk::prelude::*;
//! use plugnode_sdk::test::{Kit, Sent};
//!
//! #[derive(Default)]
//! struct Chat;
//!
//! impl Handler for Chat {
//!     fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
//!         client.broadcast("chat", &message.payload)?;
//!         Ok(())
//!     }
//! }
//!
//! let mut app = Kit::<Chat>::new();
//! let ada = app.connect("ada");
//! let bob = app.connect("bob");
//! app.message(&ada, "chat", ("hello", 1));
//! assert_eq!(app.sent_to(&bob), [Sent::new("chat", ("hello", 1))]);
//! assert!(app.sent_to(&ada).is_empty());
//! ```
//!
//! What a handler asks of all io-nodes the kit answers at once, as a cluster of one io-node named `test`: about clients and
//! channels from what it knows, and for those whose acknowledgements are collected as [`Kit::will_answer`] says.

mod answering;
mod clients;
mod effects;
mod host;
mod kit;

pub use effects::{Change, Command, Effects, Failure, Refusal, Sent, Write};
pub use host::{Line, recorded};
pub use kit::{Kit, TestClient, handshake};

pub use crate::bindings::plugnode::app::outbox::{Audience, Scope, Selection};
