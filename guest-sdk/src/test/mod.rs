//! The test kit: runs handlers natively, under `cargo test`, against an in-memory plugnode.
//!
//! A [`Kit`] holds instances of a handler, clients with their channels and received events, and buckets. It delivers one event
//! at a time and commits its effects as plugnode does: all of them if the handler returns `Ok`, none otherwise.
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
//! Commands are refused by the rules of the real host, and with the same reasons. [`Kit::with_limits`] sets the app's limits.
//!
//! The kit answers cluster queries at once, as a cluster with a single io-node named `test`. Clients answer a collected event
//! as set by [`Kit::will_answer`].
//!
//! Timers are stored but do not run: a test delivers their events with [`Kit::fire`] and [`Kit::fire_of`].

mod clients;
mod effects;
mod host;
mod kit;
mod queries;
mod timers;

pub use effects::{Change, Command, Effects, Failure, Refusal, Sent, Write};
pub use host::{Line, recorded};
pub use kit::{Kit, TestClient, handshake};

pub use crate::bindings::plugnode::app::outbox::{Audience, Scope, Selection};
pub use crate::native::CommandLimits;
