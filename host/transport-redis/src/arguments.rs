//! Keys and arguments of scripts as bytes.

use std::fmt::Display;

use bytes::Bytes;

use plugnode_message::{Event, EventKind, Namespace, SessionId};

/// A value in its text form.
pub(crate) fn bytes_of(value: impl Display) -> Bytes {
    value.to_string().into()
}

/// Field of an event's client in the hashes of a shard; empty if the event has no client.
pub(crate) fn client_key(event: &Event) -> Bytes {
    match &event.client {
        Some(client) => client_key_of(&event.namespace, &client.id),
        None => Bytes::new(),
    }
}

/// Field of a client in the hashes of a shard.
pub(crate) fn client_key_of(namespace: &Namespace, id: &SessionId) -> Bytes {
    [namespace.as_str(), id.as_str()].join("\0").into()
}

/// For whom an event counts: its client, or the caller of the API. Empty for neither.
pub(crate) fn account(event: &Event) -> Bytes {
    match (&event.kind, event.counted_for()) {
        (EventKind::Call(_), Some(caller)) => Bytes::copy_from_slice(caller.as_str().as_bytes()),
        _ => client_key(event),
    }
}

/// Index of a key in `KEYS` of a script, from 1 as in Lua. A missing key is appended.
pub(crate) fn key_index(keys: &mut Vec<Bytes>, key: Bytes) -> usize {
    match keys.iter().position(|known| *known == key) {
        Some(index) => index + 1,
        None => {
            keys.push(key);
            keys.len()
        }
    }
}
