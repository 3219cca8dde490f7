//! Lowers an event from the host's types to the contract's. The result borrows from the event, so that a payload is copied
//! once, into the handler's memory.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::bindings::plugnode::app::types as wit;
use plugnode_message::json::without_lone_surrogates;
use plugnode_message::{
    CallAction, Client, DisconnectReason, Event, EventKind, LATE_REPLY, PRESENCE, Payload, SessionId,
};

/// Key of the client's channels in the context of a disconnect.
const CHANNELS: &str = "channels";
/// Key of the ack-id by which the event of an API call is acknowledged.
const ACK_ID: &str = "ack-id";

/// An event with the parts that the contract's types borrow but the host's types do not have: lists of slices, and ids as
/// text.
#[derive(Debug)]
pub(crate) struct Lowered<'e> {
    event: &'e Event,
    attachments: Vec<&'e [u8]>,
    headers: Vec<(&'e str, &'e str)>,
    ack: Option<String>,
    late_reply: Option<String>,
    channels: Bytes,
    due_and_missed: [String; 2],
}

impl<'e> Lowered<'e> {
    pub(crate) fn new(event: &'e Event) -> Self {
        let mut lowered = Self {
            event,
            attachments: Vec::new(),
            headers: Vec::new(),
            ack: None,
            late_reply: None,
            channels: Bytes::new(),
            due_and_missed: Default::default(),
        };
        match &event.kind {
            EventKind::Connection(handshake) => {
                lowered.headers = handshake
                    .headers
                    .iter()
                    .map(|(name, value)| (&**name, &**value))
                    .collect();
            }
            EventKind::Message { args, ack, .. } => {
                lowered.attachments = slices(args);
                lowered.ack = ack.as_ref().map(ToString::to_string);
            }
            EventKind::Reply {
                answer: Some(answer), ..
            } => lowered.attachments = slices(answer),
            EventKind::LateReply { client, token, answer } => {
                lowered.late_reply = Some(late_reply(client, token, answer));
            }
            EventKind::Reply { answer: None, .. } | EventKind::Disconnect(_) | EventKind::Custom { .. } => {}
            EventKind::Timer { fired, .. } => {
                lowered.due_and_missed = [fired.due_ms.to_string(), fired.missed.to_string()];
            }
            EventKind::Channels(change) => {
                let client = event.client.as_ref();
                lowered.channels = client.map(|client| change.content(&client.id)).unwrap_or_default();
            }
            EventKind::Call(call) => lowered.ack = Some(call.ack_id(&event.namespace).to_string()),
        }
        lowered
    }

    /// The `no-client` event that introduces the event's client. None if it has no client.
    pub(crate) fn introduction(&self) -> Option<wit::Event<'_>> {
        self.client().map(wit::Event::NoClient)
    }

    /// The event. None if it lacks the client that its kind requires, or is a call that is not for handlers.
    pub(crate) fn event(&self) -> Option<wit::Event<'_>> {
        Some(match &self.event.kind {
            EventKind::Connection(handshake) => wit::Event::Connection((
                self.client()?,
                wit::Handshake {
                    auth: handshake.auth.as_deref(),
                    query: &handshake.query,
                    headers: &self.headers,
                    remote_addr: handshake.remote_addr.as_deref(),
                    transport: &handshake.transport,
                    recovered: handshake.recovered,
                },
            )),
            EventKind::Message { event, args, .. } => wit::Event::Message((
                self.client()?,
                wit::Message {
                    event,
                    args: self.payload(args),
                    ack: self.ack.as_deref(),
                },
            )),
            EventKind::Disconnect(gone) => wit::Event::Disconnect((self.client()?, lower_reason(&gone.reason))),
            EventKind::Reply { token, answer } => wit::Event::Reply((
                self.client()?,
                wit::Reply {
                    token,
                    answer: answer.as_ref().map(|answer| self.payload(answer)),
                },
            )),
            EventKind::Custom {
                kind,
                data,
                content_type,
            } => wit::Event::Custom(wit::Custom {
                kind,
                client: self.client(),
                data,
                content_type: content_type.as_deref(),
            }),
            EventKind::Timer { kind, data, .. } => wit::Event::Custom(wit::Custom {
                kind,
                client: self.client(),
                data,
                content_type: (kind == PRESENCE).then_some("application/json"),
            }),
            EventKind::LateReply { .. } => wit::Event::Custom(wit::Custom {
                kind: LATE_REPLY,
                client: None,
                data: self.late_reply.as_deref()?.as_bytes(),
                content_type: Some("application/json"),
            }),
            EventKind::Channels(_) => wit::Event::Custom(wit::Custom {
                kind: PRESENCE,
                client: self.client(),
                data: &self.channels,
                content_type: Some("application/json"),
            }),
            EventKind::Call(call) => match &call.action {
                CallAction::Event {
                    kind,
                    data,
                    content_type,
                } => wit::Event::Custom(wit::Custom {
                    kind,
                    client: None,
                    data,
                    content_type: content_type.as_deref(),
                }),
                CallAction::Commands(_) => return None,
            },
        })
    }

    /// Additional entries of the call's context: the channels of a client that has disconnected, the timer that fired, and the
    /// ack-id of an API call.
    pub(crate) fn extra(&self) -> Vec<(&str, &str)> {
        match &self.event.kind {
            EventKind::Disconnect(gone) => gone.channels.iter().map(|channels| (CHANNELS, &**channels)).collect(),
            EventKind::Timer { fired, kind, .. } if kind != PRESENCE => vec![
                ("timer-key", &*fired.key),
                ("timer-due-ms", &*self.due_and_missed[0]),
                ("timer-missed", &*self.due_and_missed[1]),
            ],
            EventKind::Call(_) => self.ack.iter().map(|ack| (ACK_ID, &**ack)).collect(),
            _ => Vec::new(),
        }
    }

    fn client(&self) -> Option<wit::Client<'_>> {
        let Client {
            id,
            io_node,
            attributes,
            ..
        } = self.event.client.as_ref()?;
        Some(wit::Client {
            id: id.as_str(),
            io_node: io_node.as_str(),
            namespace: self.event.namespace.as_str(),
            attributes,
        })
    }

    fn payload<'a>(&'a self, payload: &'a Payload) -> wit::PayloadParam<'a> {
        wit::PayloadParam {
            json: &payload.json,
            attachments: &self.attachments,
        }
    }
}

/// The content of a [`LATE_REPLY`] event, in JSON.
fn late_reply(client: &SessionId, token: &[u8], answer: &Payload) -> String {
    let attachments: Vec<_> = answer.attachments.iter().map(|bytes| BASE64.encode(bytes)).collect();
    // A reply has one argument.
    let answer: Option<[Value; 1]> = serde_json::from_str(&without_lone_surrogates(&answer.json)).ok();
    let answer = answer.map(|[answer]| answer);
    json!({
        "client": client.as_str(), "token": BASE64.encode(token), "answer": answer, "attachments": attachments,
    })
    .to_string()
}

fn slices(payload: &Payload) -> Vec<&[u8]> {
    payload.attachments.iter().map(|attachment| &**attachment).collect()
}

fn lower_reason(reason: &DisconnectReason) -> wit::DisconnectReason<'_> {
    match reason {
        DisconnectReason::Client => wit::DisconnectReason::ClientDisconnect,
        DisconnectReason::Server => wit::DisconnectReason::ServerDisconnect,
        DisconnectReason::TransportClose => wit::DisconnectReason::TransportClose,
        DisconnectReason::TransportError => wit::DisconnectReason::TransportError,
        DisconnectReason::PingTimeout => wit::DisconnectReason::PingTimeout,
        DisconnectReason::ParseError => wit::DisconnectReason::ParseError,
        DisconnectReason::ServerShutdown => wit::DisconnectReason::ServerShutdown,
        DisconnectReason::NodeLost => wit::DisconnectReason::NodeLost,
        DisconnectReason::Other(reason) => wit::DisconnectReason::Other(reason),
    }
}
