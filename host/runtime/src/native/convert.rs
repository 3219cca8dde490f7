//! Between the contract's words as the host has them and as the SDK does: two sets of types made of the same file.

use plugnode_sdk::native::{
    Audience, Client, Context, Custom, DisconnectReason, Error, Event, HandlerError, Handshake, KvError, Message,
    Owner, Payload, Reply, Scope, Selection, StoreError,
};

use crate::bindings::plugnode::app::{kv, outbox, schedule, types as wit};
use crate::bindings::wasi::keyvalue::store;

pub(super) fn event(event: wit::Event<'_>) -> Event {
    match event {
        wit::Event::Connection((of, handshake)) => Event::Connection((
            client(of),
            Handshake {
                auth: handshake.auth.map(Into::into),
                query: handshake.query.into(),
                headers: pairs(handshake.headers),
                remote_addr: handshake.remote_addr.map(Into::into),
                transport: handshake.transport.into(),
                recovered: handshake.recovered,
            },
        )),
        wit::Event::Message((of, message)) => Event::Message((
            client(of),
            Message {
                event: message.event.into(),
                args: lowered(message.args),
                ack: message.ack.map(Into::into),
            },
        )),
        wit::Event::Disconnect((of, why)) => Event::Disconnect((client(of), reason(why))),
        wit::Event::NoClient(of) => Event::NoClient(client(of)),
        wit::Event::Reply((of, reply)) => Event::Reply((
            client(of),
            Reply {
                token: reply.token.into(),
                answer: reply.answer.map(lowered),
            },
        )),
        wit::Event::Custom(custom) => Event::Custom(Custom {
            kind: custom.kind.into(),
            client: custom.client.map(client),
            data: custom.data.into(),
            content_type: custom.content_type.map(Into::into),
        }),
    }
}

pub(super) fn context(context: wit::Context<'_>) -> Context {
    Context {
        id: context.id.into(),
        attempt: context.attempt,
        received_at_ms: context.received_at_ms,
        budget_ms: context.budget_ms,
        node: context.node.into(),
        instance: context.instance,
        release: context.release.into(),
        traceparent: context.traceparent.map(Into::into),
        extra: pairs(context.extra),
    }
}

pub(super) fn handler_error(error: HandlerError) -> wit::HandlerError {
    match error {
        HandlerError::Retry(words) => wit::HandlerError::Retry(words),
        HandlerError::Reject(words) => wit::HandlerError::Reject(words),
        HandlerError::Other(words) => wit::HandlerError::Other(words),
    }
}

pub(super) fn audience(audience: Audience) -> outbox::Audience {
    outbox::Audience {
        namespace: audience.namespace,
        to: match audience.to {
            Scope::All => outbox::Scope::All,
            Scope::Only(only) => outbox::Scope::Only(selection(only)),
        },
        except: selection(audience.except),
    }
}

pub(super) fn payload(payload: Payload) -> outbox::Payload {
    outbox::Payload {
        json: payload.json,
        attachments: payload.attachments,
    }
}

pub(super) fn error(error: outbox::Error) -> Error {
    match error {
        outbox::Error::Denied(words) => Error::Denied(words),
        outbox::Error::QuotaExceeded => Error::QuotaExceeded,
        outbox::Error::PayloadTooLarge => Error::PayloadTooLarge,
        outbox::Error::Invalid(words) => Error::Invalid(words),
        outbox::Error::Other(words) => Error::Other(words),
    }
}

pub(super) fn store_error(error: store::Error) -> StoreError {
    match error {
        store::Error::NoSuchStore => StoreError::NoSuchStore,
        store::Error::AccessDenied => StoreError::AccessDenied,
        store::Error::Other(words) => StoreError::Other(words),
    }
}

pub(super) fn kv_error(error: kv::Error) -> KvError {
    match error {
        kv::Error::Denied(words) => KvError::Denied(words),
        kv::Error::QuotaExceeded => KvError::QuotaExceeded,
        kv::Error::Invalid(words) => KvError::Invalid(words),
        kv::Error::Other(words) => KvError::Other(words),
    }
}

fn client(client: wit::Client<'_>) -> Client {
    Client {
        id: client.id.into(),
        io_node: client.io_node.into(),
        namespace: client.namespace.into(),
        attributes: client.attributes.into(),
    }
}

fn reason(reason: wit::DisconnectReason<'_>) -> DisconnectReason {
    match reason {
        wit::DisconnectReason::ClientDisconnect => DisconnectReason::ClientDisconnect,
        wit::DisconnectReason::ServerDisconnect => DisconnectReason::ServerDisconnect,
        wit::DisconnectReason::TransportClose => DisconnectReason::TransportClose,
        wit::DisconnectReason::TransportError => DisconnectReason::TransportError,
        wit::DisconnectReason::PingTimeout => DisconnectReason::PingTimeout,
        wit::DisconnectReason::ParseError => DisconnectReason::ParseError,
        wit::DisconnectReason::ServerShutdown => DisconnectReason::ServerShutdown,
        wit::DisconnectReason::NodeLost => DisconnectReason::NodeLost,
        wit::DisconnectReason::Other(words) => DisconnectReason::Other(words.into()),
    }
}

fn lowered(payload: wit::PayloadParam<'_>) -> Payload {
    Payload {
        json: payload.json.into(),
        attachments: payload.attachments.iter().map(|bytes| bytes.to_vec()).collect(),
    }
}

fn selection(selection: Selection) -> outbox::Selection {
    outbox::Selection {
        clients: selection.clients,
        channels: selection.channels,
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = pairs.iter();
    pairs.map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

pub(super) fn owner(owner: Owner) -> schedule::Owner {
    match owner {
        Owner::Client => schedule::Owner::Client,
        Owner::App => schedule::Owner::App,
    }
}

/// What came of a call of `schedule`, as one of a command.
pub(super) fn scheduled(answer: wasmtime::Result<Result<(), schedule::Error>>) -> Result<(), Error> {
    match answer {
        Ok(taken) => taken.map_err(|error| match error {
            schedule::Error::Denied(words) => Error::Denied(words),
            schedule::Error::QuotaExceeded => Error::QuotaExceeded,
            schedule::Error::Invalid(words) => Error::Invalid(words),
            schedule::Error::Other(words) => Error::Other(words),
        }),
        // None of these functions traps as yet.
        Err(trap) => Err(Error::Other(trap.to_string())),
    }
}
