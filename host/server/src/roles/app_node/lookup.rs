//! Reads from the key-value store, before an event is handled, the record of a call's idempotency key or the channels of its client.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::{calls, presence};
use plugnode_message::{CallKey, KeyValue, Namespace, PresentIn, SessionId};

/// Longest time of a lookup; after it the event waits for the store, as one whose handler reads it does.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The key to read.
pub(super) enum Wanted {
    /// The record of the key of a call.
    Call(CallKey),
    /// The channels with presence that a client is in.
    Presence(Namespace, SessionId),
}

/// The value that was read.
pub(super) enum Found {
    /// The record of the key. None: the call is new.
    Call(Option<Bytes>),
    /// The channels.
    Presence(PresentIn),
}

/// The outcome of a lookup.
pub(super) struct Lookup {
    /// The event.
    pub(super) sequence: u64,
    /// The value, or why the store could not be read.
    pub(super) found: Result<Found, String>,
}

impl Lookup {
    /// Looks up what the event with this sequence needs.
    pub(super) async fn of(sequence: u64, wanted: Wanted, store: Arc<dyn KeyValue>) -> Self {
        let read = async {
            match wanted {
                Wanted::Call(key) => calls::look_up(key, store).await.map(Found::Call),
                Wanted::Presence(namespace, client) => {
                    presence::read(namespace, client, store).await.map(Found::Presence)
                }
            }
        };
        let found = match timeout(TIMEOUT, read).await {
            Ok(found) => found,
            Err(_) => Err(format!("key-value store: no answer within {TIMEOUT:?}")),
        };
        Self { sequence, found }
    }
}
