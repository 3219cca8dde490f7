//! Events, which app-nodes handle: those of clients come from io-nodes, others from timers, programs and the server API.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::fired::Fired;
use crate::{
    AckId, Call, CallAction, ChannelChange, Client, Departure, Handshake, Namespace, Payload, SessionId, Text,
};

/// Prefix of the kinds of the host's own custom events. Handlers and embedders may not use it.
pub const RESERVED_KINDS: &str = "plugnode.";

/// Kind of the custom event that carries the answer to a cluster query whose client has left.
pub const LATE_REPLY: &str = "plugnode.reply/1";

/// Something that a client did, or that happened to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The namespace, which selects the app.
    pub namespace: Namespace,
    /// The client. None: custom events, late replies, calls, and timers of the app.
    pub client: Option<Client>,
    /// When the io-node received it, in milliseconds since the Unix epoch.
    pub received_at_ms: u64,
    /// The kind of event, with its content.
    pub kind: EventKind,
}

/// The kind of an event. Handlers also get `no-client`, which the runtime adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// The client's first event.
    Connection(Box<Handshake>),
    /// The client emitted an event.
    Message {
        /// The event's name.
        event: Text,
        /// The arguments.
        args: Payload,
        /// Present when the client waits for an acknowledgement.
        ack: Option<AckId>,
    },
    /// The client's last event.
    Disconnect(Departure),
    /// The client's acknowledgement of a request.
    Reply {
        /// The token of the request.
        token: Bytes,
        /// None when the request timed out.
        answer: Option<Payload>,
    },
    /// An event of the program that embeds an io-node, or of the host.
    Custom {
        /// Its kind, with a version at the end.
        kind: Text,
        /// Its content.
        data: Bytes,
        /// The media type of the content.
        content_type: Option<Text>,
    },
    /// The answer to a cluster query whose client has left. Handlers get it as a custom event of the kind [`LATE_REPLY`], without a
    /// client.
    LateReply {
        /// The client whose event made the query.
        client: SessionId,
        /// The token of the query.
        token: Bytes,
        /// The answer.
        answer: Payload,
    },
    /// A timer fired. Handlers get it as a custom event.
    Timer {
        /// Which timer.
        fired: Fired,
        /// The kind that the handler gave it.
        kind: Text,
        /// The content that the handler gave it.
        data: Bytes,
    },
    /// A call of the server API. Handlers get only its custom event, if it has one.
    Call(Box<Call>),
    /// The client joined or left channels with presence. Handlers get it as a custom event of the kind [`PRESENCE`](crate::PRESENCE), if the
    /// app asks for it.
    Channels(ChannelChange),
}

impl EventKind {
    /// The name of this kind in logs and reports.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Connection(_) => "connection",
            Self::Message { .. } => "message",
            Self::Disconnect(_) => "disconnect",
            Self::Reply { .. } => "reply",
            Self::Custom { .. } | Self::LateReply { .. } | Self::Timer { .. } => "custom",
            Self::Call(call) => match call.action {
                CallAction::Event { .. } => "custom",
                CallAction::Commands(_) => "call",
            },
            Self::Channels(_) => "channels",
        }
    }
}

impl Event {
    /// The client whose partition and order the event has. None for an event of the app.
    pub fn in_order_with(&self) -> Option<&SessionId> {
        match &self.kind {
            EventKind::LateReply { client, .. } => Some(client),
            EventKind::Call(call) => Some(&call.order),
            _ => self.client.as_ref().map(|client| &client.id),
        }
    }

    /// Whom the event counts for while it is open: its client, or the caller of the API by a text that is no client's id.
    pub fn counted_for(&self) -> Option<Cow<'_, SessionId>> {
        match &self.kind {
            EventKind::Call(call) => Some(Cow::Owned(format!("#{}", call.caller).into())),
            _ => self.client.as_ref().map(|client| Cow::Borrowed(&client.id)),
        }
    }

    /// This event and a later event of the same periodic timer as one; None if they are not.
    pub fn merged_with(&self, later: &Self) -> Option<Self> {
        let (
            EventKind::Timer { fired, kind, data },
            EventKind::Timer {
                fired: later_fired,
                kind: later_kind,
                data: later_data,
            },
        ) = (&self.kind, &later.kind)
        else {
            return None;
        };
        let is_same = self.namespace == later.namespace
            && self.in_order_with() == later.in_order_with()
            && fired.key == later_fired.key
            && (kind, data) == (later_kind, later_data);
        (is_same && fired.is_periodic && later_fired.is_periodic).then(|| Self {
            kind: EventKind::Timer {
                fired: Fired {
                    missed: fired.missed.saturating_add(later_fired.missed).saturating_add(1),
                    ..later_fired.clone()
                },
                kind: kind.clone(),
                data: data.clone(),
            },
            ..later.clone()
        })
    }

    /// Size in bytes, as limits count it.
    pub fn size(&self) -> usize {
        const FIXED: usize = 128;
        FIXED
            + match &self.kind {
                EventKind::Connection(handshake) => {
                    handshake.query.len()
                        + handshake
                            .headers
                            .iter()
                            .map(|(name, value)| name.len() + value.len())
                            .sum::<usize>()
                        + handshake.auth.as_ref().map_or(0, |auth| auth.len())
                }
                EventKind::Message { event, args, .. } => event.len() + args.size(),
                EventKind::Disconnect(departure) => departure.channels.as_ref().map_or(0, |channels| channels.len()),
                EventKind::Reply { token, answer } => token.len() + answer.as_ref().map_or(0, Payload::size),
                EventKind::Custom { data, .. } => data.len(),
                EventKind::LateReply { token, answer, .. } => token.len() + answer.size(),
                EventKind::Timer { fired, kind, data } => fired.key.len() + kind.len() + data.len(),
                EventKind::Call(call) => call.size(),
                EventKind::Channels(change) => change.size(),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timer(missed: u32, is_periodic: bool, data: &'static [u8]) -> Event {
        Event {
            namespace: "/".into(),
            client: None,
            received_at_ms: 0,
            kind: EventKind::Timer {
                fired: Fired {
                    key: "tick".into(),
                    due_ms: u64::from(missed),
                    missed,
                    is_periodic,
                },
                kind: "tests.tick/1".into(),
                data: Bytes::from_static(data),
            },
        }
    }

    #[test]
    fn merged_event_of_timer_counts_both() {
        let merged = timer(2, true, b"a").merged_with(&timer(3, true, b"a"));
        let EventKind::Timer { fired, .. } = merged.expect("they are of one timer").kind else {
            panic!("it is a timer's")
        };
        assert_eq!((fired.missed, fired.due_ms), (6, 3));
    }

    #[test]
    fn only_events_of_one_periodic_timer_are_merged() {
        let one = timer(0, true, b"a");
        let once = timer(0, false, b"a");
        let of_other_key = |mut event: Event| {
            if let EventKind::Timer { fired, .. } = &mut event.kind {
                fired.key = "tock".into();
            }
            event
        };
        assert_eq!(one.merged_with(&once), None);
        assert_eq!(once.merged_with(&once), None);
        assert_eq!(one.merged_with(&timer(0, true, b"b")), None);
        assert_eq!(one.merged_with(&of_other_key(one.clone())), None);
    }
}
