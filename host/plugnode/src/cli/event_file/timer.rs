//! Timers that an event sets or cancels, with the keys of a file of events: such writes to reserved buckets have contents that differ
//! from run to run.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::effects::put_bytes;
use plugnode_message::{Change, Event, KeyChange, Namespace, SessionId, Timer, has_timers, partition_of_timer};

/// Time from the event to the due time of a one-shot timer.
const AFTER: &str = "after-ms";
/// How far an expected `after-ms` may be off: a handler that adds to the present time reads the clock while it handles the event.
const TOLERANCE_MS: u64 = 1_000;

/// The timer that this write sets or cancels. None for any other write.
pub(super) fn timer(change: &KeyChange, event: &Event) -> Option<Value> {
    if !has_timers(&change.bucket) {
        return None;
    }
    let mut keys = Map::new();
    let mut put = |name: &str, value: Value| drop(keys.insert(name.to_owned(), value));
    match &change.change {
        Change::Set { value, .. } => {
            let (due_ms, timer) = Timer::read(value)?;
            put("key", (*timer.key).into());
            if let Some(client) = &timer.client {
                put("client", client.as_str().into());
            }
            match (timer.period_ms, due_ms.checked_sub(event.received_at_ms)) {
                (Some(period_ms), _) => put("every-ms", period_ms.into()),
                (None, Some(after_ms)) => put(AFTER, after_ms.into()),
                (None, None) => put("at-ms", due_ms.into()),
            }
            put("kind", (*timer.kind).into());
            put_bytes(&mut keys, "data", &timer.data);
        }
        Change::Delete => {
            let client = event.client.as_ref().map(|client| &client.id);
            let of_client =
                client.and_then(|client| Some((key_of(change, &event.namespace, Some(client))?, Some(client))));
            let (key, client) = match of_client {
                Some(found) => found,
                None => (key_of(change, &event.namespace, None)?, None),
            };
            put("key", key.into());
            if let Some(client) = client {
                put("client", client.as_str().into());
            }
            put("cancel", true.into());
        }
        Change::Add(_) => return None,
    }
    Some(keys.into())
}

/// The key of a timer with this owner, from the name of its record. None if it has another owner.
fn key_of<'a>(change: &'a KeyChange, namespace: &Namespace, client: Option<&SessionId>) -> Option<&'a str> {
    let without_key = Timer {
        namespace: namespace.clone(),
        client: client.cloned(),
        key: "".into(),
        kind: "".into(),
        data: Bytes::new(),
        period_ms: None,
    };
    let prefix = without_key.cancel(namespace, partition_of_timer(&change.key)?).key;
    change.key.strip_prefix(&*prefix)
}

/// The actual write with the expected due time of its timer, if that is close enough.
pub(super) fn with_expected_time(mut actual: Value, expected: &Value) -> Value {
    let after = |write: &Value| write.get("timer")?.get(AFTER)?.as_u64();
    if let (Some(one), Some(other)) = (after(expected), after(&actual))
        && one.abs_diff(other) <= TOLERANCE_MS
    {
        actual["timer"][AFTER] = one.into();
    }
    actual
}
