//! How a handler gets ready to be replaced while clients use it. This module has nothing in it but this page.
//!
//! When a new release is deployed, each of its instances takes the place of one of the old release's between two
//! events. Clients stay connected, no event is lost or handled twice, and each client's events keep their order. What an
//! instance has in memory is another matter: the new instance is a new program. There are four ways to live with that,
//! the simplest first.
//!
//! 1. **Keep nothing.** A handler without fields is ready as it is.
//! 2. **Keep it in a bucket** ([`kv`](crate::kv)): what belongs to all clients, or has to outlast everything. It is
//!    written with the event's other effects or not at all, and every instance on every node reads the same.
//! 3. **Keep it with the client** ([`Client::patch_attributes`](crate::Client::patch_attributes)): what belongs to one
//!    client, such as its name. It comes with each of the client's events and lives as long as its connection.
//! 4. **Hand it over** ([`Handler::save`](crate::Handler::save) and [`Handler::load`](crate::Handler::load)): what is
//!    costly to make anew, or is not worth a write for each event: caches, counts, a game that is being played.
//!
//! # What is lost when
//!
//! | | memory | memory, handed over | attributes | bucket |
//! |---|---|---|---|---|
//! | a new release is deployed | lost | kept | kept | kept |
//! | the handler panics or loops | lost, in that instance | lost, in that instance | kept | kept |
//! | the app-node stops or dies | lost | lost | kept | kept |
//! | a client's events move to another app-node | stays behind | stays behind | kept | kept |
//! | the client disconnects | stays | stays | gone | kept |
//!
//! So a snapshot makes a deployment go unnoticed and is no storage. A handler that hands something over must still be
//! able to begin with nothing, and is told when to: by `no-client`.
//!
//! # On trial
//!
//! Before a release takes the place of another, an instance of it is given first events, one at a time. Where no instance
//! sees all events of a client, with `round-robin` and several instances, what it does with them counts; what it has in
//! memory by then goes with the trial. With `sticky`, or a single instance, what it does is dropped, and the release in use
//! handles the event as well: nothing is missing from what that one hands over. A request by HTTP is sent by both of them.
//!
//! # `no-client`
//!
//! Before an event of a client whose connection this very instance has not seen, there is
//! [`Handler::on_no_client`](crate::Handler::on_no_client). That is so when another instance handled the connection (with
//! `dispatch = "sticky"` it is always the same one), and when this instance is newer than that: because the one before it
//! broke, or was replaced and handed nothing over. An instance that has loaded a snapshot counts as having seen whom the
//! one before it had seen: what that one knew of them is in the snapshot. So a handler that has something in memory for
//! each client makes it in `on_connection` and, with what it finds in attributes or in a bucket, in `on_no_client`.
//!
//! # An example
//!
//! The counts of what each client said, carried from release to release. `examples/counter` is the same as a component.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use plugnode_sdk::prelude::*;
//! use plugnode_sdk::test::Kit;
//!
//! /// What `Counter` hands over, and in which form.
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
//!         // Nothing is known of this one, and so counting begins anew.
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
//!             other => return Err(Error::reject(format!("`{other}` is not known here"))),
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
//! The release that loads is not always the one after the release that saved: a rollback goes the other way. So give
//! what you save a schema with a version, and change the version whenever older code could not read it. `load` then
//! takes every version it knows, the newest first:
//!
//! ```
//! # use plugnode_sdk::{Snapshot, Result, Error};
//! # fn load(snapshot: &Snapshot) -> Result<Vec<(String, u64)>> {
//! Ok(match snapshot.schema.as_str() {
//!     "acme.score/2" => snapshot.parse()?,
//!     // There was one score for everybody.
//!     "acme.score/1" => vec![("all".to_owned(), snapshot.parse()?)],
//!     other => return Err(Error::reject(format!("`{other}` is not known here"))),
//! })
//! # }
//! # assert!(load(&Snapshot::json("acme.score/1", &7).unwrap()).is_ok());
//! ```
//!
//! What `load` refuses is not lost in silence. The host drops that instance, makes another which begins with nothing, and
//! reports the reason where the deploy was asked for. To leave a snapshot behind on purpose, return `Ok` and ignore it;
//! but then `no-client` does not come for those whom the old instance had seen. To have it come, refuse.
//!
//! # Beginning and end
//!
//! [`Handler::on_start`](crate::Handler::on_start) is called before anything else, and an error there stops a deploy
//! before it has replaced anything: the place to look at the configuration. [`Handler::on_stop`](crate::Handler::on_stop)
//! is called after the last event, and before `save`. In these four there is no event, and so commands are
//! [`Denied`](crate::CommandError::Denied), writes to buckets fail, and [`context`](fn@crate::context) panics; buckets
//! and the configuration can be read. Each has the time of an event, but for `on_start`, which has ten seconds; the
//! size of a snapshot is bounded by `limits.snapshot`, 16 MB if nothing else is said.
