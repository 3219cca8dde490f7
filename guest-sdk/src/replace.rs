//! How to write a handler that can be replaced by a new release while clients are connected. This module contains only this
//! page.
//!
//! When a new release is deployed, each of its instances replaces one instance of the old release between two events.
//! Clients stay connected, no event is lost or handled twice, and each client's events keep their order. Memory is not carried
//! over automatically, because the new instance is a new program. There are four ways to deal with that, the simplest first:
//!
//! 1. **Keep no state.** A handler without fields needs nothing else.
//! 2. **Store it in a bucket** ([`kv`](crate::kv)): for state that clients share or that must survive everything. Writes are
//!    committed with the event's other effects, and every instance on every node reads the same values.
//! 3. **Store it with the client** ([`Client::patch_attributes`](crate::Client::patch_attributes)): for state of one client, such
//!    as its name. It comes with each of the client's events and lasts as long as the connection.
//! 4. **Hand it over** ([`Handler::save`](crate::Handler::save) and [`Handler::load`](crate::Handler::load)): for state that is
//!    expensive to rebuild or not worth a write per event, such as caches, counters or a running game.
//!
//! # What survives what
//!
//! | | memory | memory, handed over | attributes | bucket |
//! |---|---|---|---|---|
//! | a new release is deployed | lost | kept | kept | kept |
//! | the handler panics or loops | lost, in that instance | lost, in that instance | kept | kept |
//! | the app-node stops or dies | lost | lost | kept | kept |
//! | a client's events move to another app-node | stays on the old node | stays on the old node | kept | kept |
//! | the client disconnects | kept | kept | lost | kept |
//!
//! A snapshot therefore carries state through a deployment, but is not storage. A handler that hands state over must also be
//! able to start empty; `no-client` events tell it which clients it does not know.
//!
//! # Canary events
//!
//! Before a release replaces another, one of its instances handles a few real events, one at a time. With `round-robin` and
//! several instances, its effects are committed; its memory is discarded afterwards. With `sticky`, or a single
//! instance, its effects are dropped and the release in use handles the same event as well, so that the state which that
//! release hands over is complete. An outgoing HTTP request is then sent by both.
//!
//! # `no-client`
//!
//! [`Handler::on_no_client`](crate::Handler::on_no_client) is called before an event of a client whose connection this instance
//! did not handle: because another instance handled it (with `dispatch = "sticky"` it is always the same one), or because this
//! instance started later, after its predecessor failed or was replaced without handing over state. An instance
//! that has loaded a snapshot counts as having handled the connections of all clients its predecessor knew, because the
//! snapshot contains what the predecessor knew of them. A handler that keeps state per client in memory creates it in
//! `on_connection`, and in `on_no_client` from attributes or a bucket.
//!
//! # An example
//!
//! Counts the messages of each client, across releases. `examples/counter` is the same handler as a component.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use plugnode_sdk::prelude::*;
//! use plugnode_sdk::test::Kit;
//!
//! /// The format of the state that `Counter` hands over.
//! const SCHEMA: &str = "counter/1";
//!
//! #[derive(Default)]
//! struct Counter {
//!     said: BTreeMap<String, u64>,
//! }
//!
//! impl Handler for Counter {
//!     fn on_connection(&mut self, client: &Client, _: &Handshake) -> Result {
//!         self.said.insert(client.id().into(), 0);
//!         Ok(())
//!     }
//!
//!     fn on_no_client(&mut self, client: &Client) -> Result {
//!         // This instance does not know the client: start at 0.
//!         self.said.insert(client.id().into(), 0);
//!         Ok(())
//!     }
//!
//!     fn on_message(&mut self, client: &Client, message: &Incoming) -> Result {
//!         let said = self.said.entry(client.id().into()).or_default();
//!         *said += 1;
//!         message.ack(*said)?;
//!         Ok(())
//!     }
//!
//!     fn on_disconnect(&mut self, client: &Client, _: &DisconnectReason) -> Result {
//!         self.said.remove(client.id());
//!         Ok(())
//!     }
//!
//!     fn save(&self) -> Result<Option<Snapshot>> {
//!         Ok(Some(Snapshot::json(SCHEMA, &self.said)?))
//!     }
//!
//!     fn load(&mut self, snapshot: Snapshot) -> Result {
//!         match snapshot.schema.as_str() {
//!             SCHEMA => self.said = snapshot.parse()?,
//!             other => return Err(Error::reject(format!("cannot load state `{other}`"))),
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let mut app = Kit::<Counter>::new();
//! app.connect("ada");
//! app.message("ada", "hi", ());
//! app.swap();
//! assert_eq!(app.ask("ada", "hi", ()).unwrap().arg::<u64>(0)?, 2);
//! # Ok::<(), plugnode_sdk::ArgsError>(())
//! ```
//!
//! # When the snapshot changes
//!
//! The loading release may be older than the saving one, namely after a rollback. Give the state a schema with a version, and
//! change the version whenever older code cannot read the new format. `load` accepts every version that it knows:
//!
//! ```
//! # use plugnode_sdk::{Snapshot, Result, Error};
//! # fn load(snapshot: &Snapshot) -> Result<Vec<(String, u64)>> {
//! Ok(match snapshot.schema.as_str() {
//!     "acme.score/2" => snapshot.parse()?,
//!     // Version 1 had a single score for all players.
//!     "acme.score/1" => vec![("all".to_owned(), snapshot.parse()?)],
//!     other => return Err(Error::reject(format!("cannot load state `{other}`"))),
//! })
//! # }
//! # assert!(load(&Snapshot::json("acme.score/1", &7).unwrap()).is_ok());
//! ```
//!
//! If `load` returns an error, the host drops that instance, starts another, which is empty, and reports the reason to the
//! caller of the deploy. To discard a snapshot on purpose, return `Ok` and ignore it; `no-client` is then not called for
//! clients that the old instance knew. To have it called, return an error.
//!
//! # Start and stop
//!
//! [`Handler::on_start`](crate::Handler::on_start) is called before any other method. An error there stops a deploy before
//! anything is replaced, which makes it the place to check the configuration. [`Handler::on_stop`](crate::Handler::on_stop) is
//! called after the last event and before `save`. `on_start`, `on_stop`, `save` and `load` run outside of an event: commands
//! are [`Denied`](crate::CommandError::Denied), writes to buckets fail, and [`context`](fn@crate::context) panics; buckets and the
//! configuration can be read. Each has the time limit of an event, except `on_start`, which has ten seconds. The size of a
//! snapshot is limited by `limits.snapshot`, by default 16 MB.
