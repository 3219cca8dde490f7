//! The messages between the nodes of plugnode: events, commands, effects, and their parts. This crate depends on no other crate of
//! plugnode but the test helpers.
//!
//! - An io-node makes an [`Event`] when a [`Client`] connects, sends or disconnects; its [`Payload`] is never parsed on its way.
//! - Handling an event produces [`Effects`]: [`Command`]s to io-nodes, and changes of keys ([`KeyChange`]).
//! - A command is for an [`Audience`]: clients and channels of a namespace.
//! - [`Question`] is a query of all io-nodes, and [`PartialAnswer`] the answer of one of them.
//! - A [`Call`] is an event of the server API.
//! - A [`Timer`] is a record in a reserved bucket; when it fires, it becomes an event. So does a [`WebhookDelivery`].
//! - A [`ChannelChange`] is an event as well; a [`PresenceRecord`] keeps that a client is in a channel.
//!
//! Texts and payloads are shared bytes: a message passes from socket to handler, and to many sockets, without a copy.
//!
//! Beside these: [`json`] reads JSON text token by token, [`namespaces`] finds the app of a namespace, [`id_map`] has maps by
//! session id.

mod attributes;
mod audience;
mod call;
mod client;
mod command;
mod disconnect;
mod effects;
mod event;
mod fired;
mod id;
pub mod id_map;
pub mod json;
mod key_value;
mod name;
pub mod namespaces;
mod payload;
mod presence;
mod query;
mod time;
mod timer;
mod webhook;

pub use bytestring::ByteString as Text;

pub use self::attributes::AttributePatch;
pub use self::audience::{Audience, Scope, Selection};
pub use self::call::{Call, CallAction, CallAnswer, CallKey, CallOutcome};
pub use self::client::{Client, Handshake, MAX_ATTRIBUTES};
pub use self::command::{Command, Destination, Refusal};
pub use self::disconnect::{Departure, DisconnectReason};
pub use self::effects::Effects;
pub use self::event::{Event, EventKind, LATE_REPLY, RESERVED_KINDS};
pub use self::fired::Fired;
pub use self::id::{AckId, EventId, Partition};
pub use self::key_value::{
    Change, KeyChange, KeyValue, KeyValueError, MAX_SUM, Read, Seen, Write, integer_of, sha1_of, sum_of,
};
pub use self::name::{Channel, MAX_NAME, NamePattern, Namespace, NodeId, RESERVED_EVENTS, SessionId};
pub use self::payload::{MAX_ATTACHMENTS, Payload};
pub use self::presence::{
    ChannelChange, PRESENCE, PresenceRecord, PresentIn, index_bucket, presence_bucket, presence_page,
};
pub use self::query::{ClientDescription, PartialAnswer, QueryOrigin, Question};
pub use self::time::now_ms;
pub use self::timer::{
    Firing, LATEST, TIMER_BUCKETS, Timer, TimerEvent, due_in, due_of, has_timers, names_of, partition_of_timer,
};
pub use self::webhook::WebhookDelivery;
