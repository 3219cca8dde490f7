//! Write Socket.IO applications for plugnode.
//!
//! An application is a [`Handler`]: a type with a method for each kind of event. plugnode holds the clients' connections
//! and calls the handler, which is compiled to a separate WebAssembly component. The component can be stopped, can crash,
//! and can be replaced and scaled out while the clients stay connected.
//!
//! ```
//! use plugnode_sdk::prelude::*;
//!
//! #[derive(Default)]
//! struct Lobby;
//!
//! impl Handler for Lobby {
//!     fn on_connection(&mut self, client: &Client, _: &Handshake) -> Result {
//!         client.join("lobby")?;
//!         client.broadcast("joined", client.id())?;
//!         Ok(())
//!     }
//!
//!     fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
//!         match message.event.as_str() {
//!             "say" => client.to("lobby").emit("said", (client.id(), message.arg::<String>(0)?))?,
//!             other => message.ack(format!("there is no `{other}` here"))?,
//!         }
//!         Ok(())
//!     }
//! }
//!
//! plugnode_sdk::export!(Lobby);
//! ```
//!
//! # The crate of a handler
//!
//! A library with two crate types: `cdylib` for the component, `rlib` for unit tests.
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib", "rlib"]
//!
//! [dependencies]
//! plugnode-sdk = "0.1"
//! ```
//!
//! `cargo build --release --target wasm32-wasip2` builds the component, as does `cargo component build --release`.
//! `plugnode dev .` builds and runs it, and rebuilds and replaces it whenever a file is saved.
//!
//! # What a handler can do
//!
//! - **Emit events**: [`Client::emit`], [`Client::broadcast`], [`Incoming::ack`]. Arguments are Rust values that serde can
//!   write (see [`Args`]), with [`Binary`] for bytes. A [`payload`](Incoming::payload) that is only forwarded is not parsed.
//! - **Address clients**: [`to`], [`client`], [`all`] and [`Client::to`] create an [`Audience`], as in
//!   `to("news").to("sport").except("muted").emit("goal", "1:0")`. [`Message`] is the message builder of socket.io-cluster.
//! - **Group clients**: [`Client::join`] and [`Client::leave`] for channels, which Socket.IO calls rooms.
//! - **Ask clients**: [`Client::request`], with the answer in [`Handler::on_reply`]; [`Audience::collect`] for the answers of
//!   many clients in one reply.
//! - **Query the cluster**: [`Audience::find_clients`], [`list_channels`] and [`settle`] ask all io-nodes: see [`answers`].
//! - **Control admission**: [`Client::refuse`], if the app's configuration has `admission = true`.
//! - **Store data**: [`Client::patch_attributes`] for data of one client, [`kv`] for shared data.
//! - **Set timers**, of a client or of the app: [`mod@schedule`].
//! - **See who is in a channel**, across io-nodes: [`mod@presence`].
//! - **Read the environment**: [`context`] for the call, [`config`] for the app's configuration. [`log`] writes to the host's log.
//!
//! Commands, writes and timers are buffered, and committed as a whole after the method has returned `Ok`. If it returns an
//! [`Error`], panics or exceeds a limit, they are all dropped; a panic's message goes to the host's log. An event that writes
//! to a bucket is handled again if a value that it read has changed before its commit: see [`mod@kv`]. Memory is different:
//! changes to `self` are not rolled back after an error, and are lost in a panic. [`replace`] explains how state survives the
//! deployment of a new release.
//!
//! # Tests
//!
//! Handlers run natively under `cargo test`, with the kit in [`mod@test`]. A Rust program that embeds plugnode can also run
//! them natively: see [`mod@native`].

#[allow(missing_docs, unsafe_code, unreachable_pub, rust_2018_idioms, clippy::all)]
#[doc(hidden)]
pub mod bindings;

pub mod answers;
mod audience;
mod binary;
mod client;
mod command;
mod command_error;
pub mod config;
mod context;
mod error;
mod handler;
mod incoming;
pub mod kv;
mod late_reply;
pub mod log;
mod message;
#[cfg(not(target_family = "wasm"))]
pub mod native;
mod payload;
mod placeholder;
pub mod presence;
pub mod replace;
pub mod schedule;
mod snapshot;
mod surrogates;
#[cfg(not(target_family = "wasm"))]
pub mod test;

pub use audience::{Audience, all, client, to};
pub use binary::Binary;
pub use client::Client;
pub use command::*;
pub use command_error::CommandError;
pub use context::{Context, context};
pub use error::{Error, Result};
pub use handler::Handler;
#[doc(hidden)]
pub use handler::{handle, load, save, start, stop};
pub use incoming::{Custom, DisconnectReason, Handshake, Incoming, Reply};
pub use message::Message;
pub use payload::{Args, ArgsError, Payload};
pub use snapshot::Snapshot;

/// The types that most handlers use.
pub mod prelude {
    pub use crate::{
        Audience, Binary, Client, Custom, DisconnectReason, Error, Handler, Handshake, Incoming, Message, Reply,
        Result, Snapshot,
    };
}

/// The functions of the host: the contract's imports on wasm, and their native implementation elsewhere.
mod host {
    #[cfg(target_family = "wasm")]
    pub(crate) use crate::bindings::{
        plugnode::app::{kv, outbox, presence, schedule},
        wasi::config::store as config,
        wasi::keyvalue::{atomics, batch, store},
        wasi::logging::logging,
    };
    #[cfg(not(target_family = "wasm"))]
    pub(crate) use crate::command::value as outbox;
    #[cfg(not(target_family = "wasm"))]
    pub(crate) use crate::native::imports::{atomics, batch, config, kv, logging, presence, schedule, store};
}
