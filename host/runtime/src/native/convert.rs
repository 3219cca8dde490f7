//! Converts between the host's and the SDK's types of the contract, both generated from the same WIT file.

use plugnode_sdk::native::{
    Client, Context, Custom, DisconnectReason, Event, HandlerError, Handshake, KvError, Message, Payload, Reply,
    StoreError,
};

use crate::bindings::plugnode::app::{kv, types as wit};
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
        HandlerError::Retry(reason) => wit::HandlerError::Retry(reason),
        HandlerError::Reject(reason) => wit::HandlerError::Reject(reason),
        HandlerError::Other(reason) => wit::HandlerError::Other(reason),
    }
}

pub(super) fn store_error(error: store::Error) -> StoreError {
    match error {
        store::Error::NoSuchStore => StoreError::NoSuchStore,
        store::Error::AccessDenied => StoreError::AccessDenied,
        store::Error::Other(reason) => StoreError::Other(reason),
    }
}

pub(super) fn kv_error(error: kv::Error) -> KvError {
    match error {
        kv::Error::Denied(reason) => KvError::Denied(reason),
        kv::Error::QuotaExceeded => KvError::QuotaExceeded,
        kv::Error::Invalid(reason) => KvError::Invalid(reason),
        kv::Error::Other(reason) => KvError::Other(reason),
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

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = pairs.iter();
    pairs.map(|(name, value)| ((*name).into(), (*value).into())).collect()
}
