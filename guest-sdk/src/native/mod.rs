//! Handlers without WebAssembly: how a Rust program runs a [`Handler`](crate::Handler) in its own process.
//!
//! In a program that embeds plugnode, the app-node does this; in tests, the [test kit](crate::test) does. To run handlers in
//! another way, implement [`Host`], which receives their commands and writes, and call an [`Instance`] within it:
//!
//! ```
//! use plugnode_sdk::native::{
//!     Command, Context, Error, Event, Host, Instance, KeyPage, KvError, Level, StoreError, within,
//! };
//! use plugnode_sdk::prelude::*;
//!
//! /// Records commands and refuses everything else.
//! #[derive(Default)]
//! struct Outbox(Vec<Command>);
//!
//! impl Host for Outbox {
//!     fn command(&mut self, command: Command) -> std::result::Result<(), Error> {
//!         self.0.push(command);
//!         Ok(())
//!     }
//!     fn open(&mut self, _: &str) -> std::result::Result<(), StoreError> {
//!         Err(StoreError::NoSuchStore)
//!     }
//!     fn get(&mut self, _: &str, _: &[String]) -> std::result::Result<Vec<Option<Vec<u8>>>, StoreError> {
//!         Err(StoreError::NoSuchStore)
//!     }
//!     fn keys(&mut self, _: &str, _: &str, _: Option<u64>) -> std::result::Result<KeyPage, StoreError> {
//!         Err(StoreError::NoSuchStore)
//!     }
//!     fn write(&mut self, _: &str, _: Vec<(String, Option<Vec<u8>>)>) -> std::result::Result<(), StoreError> {
//!         Err(StoreError::NoSuchStore)
//!     }
//!     fn add(&mut self, _: &str, _: &str, _: i64) -> std::result::Result<(), KvError> {
//!         Err(KvError::Denied("there are no buckets".into()))
//!     }
//!     fn set_with_ttl(&mut self, _: &str, _: &str, _: &[u8], _: u64) -> std::result::Result<(), KvError> {
//!         Err(KvError::Denied("there are no buckets".into()))
//!     }
//!     fn config(&mut self) -> Vec<(String, String)> {
//!         Vec::new()
//!     }
//!     fn log(&mut self, _: Level, context: &str, message: &str) {
//!         println!("{context}: {message}");
//!     }
//! }
//!
//! #[derive(Default)]
//! struct Greeter;
//!
//! impl Handler for Greeter {
//!     fn on_no_client(&mut self, client: &Client) -> Result {
//!         Ok(client.emit("hello", ())?)
//!     }
//! }
//!
//! # let context = Context {
//! #     id: "1".into(), attempt: 1, received_at_ms: 0, budget_ms: 1000, node: "here".into(), instance: 0,
//! #     release: String::new(), traceparent: None, extra: Vec::new(),
//! # };
//! # let client = plugnode_sdk::bindings::plugnode::app::types::Client {
//! #     id: "ada".into(), io_node: "io".into(), namespace: "/".into(), attributes: "{}".into(),
//! # };
//! let mut greeter = Greeter;
//! let (handled, outbox) = within(Outbox::default(), || greeter.handle(Event::NoClient(client), context));
//! assert!(handled.is_ok_and(|answer| answer.is_ok()));
//! assert_eq!(outbox.0.len(), 1);
//! ```

mod host;
pub(crate) mod imports;
mod instance;
mod json;
pub(crate) mod rules;

pub(crate) use host::call_host;
pub use host::{Host, within, words_of};
pub use instance::Instance;
pub use rules::{CallKind, CommandLimits, CommandRules, MAX_NAME, RESERVED_EVENTS, RESERVED_KINDS};

pub use crate::command::value::Command;

pub use crate::bindings::plugnode::app::kv::Error as KvError;
pub use crate::bindings::plugnode::app::outbox::{Audience, Error, Scope, Selection};
pub use crate::bindings::plugnode::app::presence::{Error as PresenceError, Member, Page as PresencePage};
pub use crate::bindings::plugnode::app::schedule::{Error as ScheduleError, Owner};
pub use crate::bindings::plugnode::app::types::{
    Client, Context, Custom, DisconnectReason, Event, HandlerError, Handshake, Message, Payload, Reply,
};
pub use crate::bindings::wasi::keyvalue::store::{Error as StoreError, KeyResponse as KeyPage};
pub use crate::bindings::wasi::logging::logging::Level;
