//! Write Socket.IO applications for plugnode.
//!
//! An application is a [`Handler`]: a type with a method for each kind of event. plugnode holds the clients'
//! connections and calls the handler, which is a WebAssembly component of its own and so can be stopped, crashed,
//! replaced and multiplied while no client notices.
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
//! A library of two kinds: the component, and what unit tests link.
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib", "rlib"]
//!
//! [dependencies]
//! plugnode-sdk = "0.1"
//! ```
//!
//! `cargo build --release --target wasm32-wasip2` makes the component, as does `cargo component build --release`.
//! `plugnode dev .` builds and runs it, and takes each change into use as it is saved.
//!
//! # What a handler can do
//!
//! - **Answer**: [`Client::emit`], [`Client::broadcast`], [`Incoming::ack`]. Arguments are Rust values by way of serde
//!   ([`Args`] says how), with [`Binary`] for bytes; what is only passed on is never parsed ([`Incoming::payload`]).
//! - **Address**: [`to`], [`client`], [`all`] and [`Client::to`] make an [`Audience`], as in
//!   `to("news").to("sport").except("muted").emit("goal", "1:0")`; [`Message`] is the builder of socket.io-cluster.
//! - **Group**: [`Client::join`] and [`Client::leave`] for channels, which Socket.IO calls rooms.
//! - **Ask**: [`Client::request`], answered in [`Handler::on_reply`]; [`Audience::collect`] for the answers of many at once.
//! - **Look around**: [`Audience::find_clients`], [`list_channels`] and [`settle`] ask all io-nodes: see [`answers`].
//! - **Admit**: [`Client::refuse`], where the app's configuration has clients wait at the door.
//! - **Remember**: [`Client::patch_attributes`] for what belongs to a client, [`kv`] for what belongs to all.
//! - **Act later**: timers of a client or of the app, by [`mod@schedule`].
//! - **Know**: [`context`] for the call, [`config`] for the app's configuration, [`log`] for the host's log.
//!
//! All of it is buffered, and carried out as a whole once the method returns `Ok`. When it returns an [`Error`],
//! panics, or runs out of its limits, none of it is; what the panic says goes to the host's log. The same goes for an
//! event that writes to a bucket when what it has read there has changed by its commit: see [`mod@kv`]. Memory is another
//! matter: what an instance keeps in `self` is not taken back by an error, and is lost by a panic. How it outlives the
//! replacement of the component by a new release, and what does not need to, says [`replace`].
//!
//! # Tests
//!
//! Handlers run natively under `cargo test`, by the kit in [`mod@test`]. A Rust program that embeds plugnode can run them
//! natively as well: see [`mod@native`].

#[allow(missing_docs, unsafe_code, unreachable_pub, rust_2018_idioms, clippy::all)]
#[doc(hidden)]
pub mod bindings;

pub mod answers;
mod audience;
mod binary;
mod client;
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
mod outbox;
mod payload;
pub mod replace;
pub mod schedule;
mod snapshot;
mod surrogates;
#[cfg(not(target_family = "wasm"))]
pub mod test;

pub use audience::{Audience, all, client, to};
pub use binary::Binary;
pub use client::Client;
pub use context::{Context, context};
pub use error::{Error, Result};
pub use handler::Handler;
#[doc(hidden)]
pub use handler::{handle, load, save, start, stop};
pub use incoming::{Custom, DisconnectReason, Handshake, Incoming, Reply};
pub use message::Message;
pub use outbox::{AckId, CommandError, list_channels, list_channels_of, send_custom, settle};
pub use payload::{Args, ArgsError, Payload};
pub use snapshot::Snapshot;

/// What most handlers name.
pub mod prelude {
    pub use crate::{
        Audience, Binary, Client, Custom, DisconnectReason, Error, Handler, Handshake, Incoming, Message, Reply,
        Result, Snapshot,
    };
}

/// The one seam to the host: the contract's imports on wasm, and elsewhere what stands in for them.
mod host {
    #[cfg(target_family = "wasm")]
    pub(crate) use crate::bindings::{
        plugnode::app::{kv, outbox, schedule},
        wasi::config::store as config,
        wasi::keyvalue::{atomics, batch, store},
        wasi::logging::logging,
    };
    #[cfg(not(target_family = "wasm"))]
    pub(crate) use crate::native::imports::{atomics, batch, config, kv, logging, outbox, schedule, store};
}
