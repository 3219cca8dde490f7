//! Deliveries to webhooks: what is sent to another program over HTTP, until it has arrived.
//!
//! A delivery is a timer in a reserved bucket, one bucket a webhook: it is committed with the event that it tells of, and fires in that
//! event's partition. The app-node that leases the partition then sends it. A failed delivery is set again, for later.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{EventKind, KeyChange, Namespace, Partition, TIMER_BUCKETS, Text, Timer};

/// The kind of the timers of deliveries. Reserved, so that no handler sets such a timer.
const KIND: &str = "plugnode.webhook/1";
/// Prefix of the name of the buckets, after that of timers. The namespace of an app begins with `/`.
const BUCKETS: &str = "webhook:";

/// A delivery to a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookDelivery {
    /// The name of the webhook.
    pub webhook: Text,
    /// Its id, the same in each attempt.
    pub id: Text,
    /// What is sent.
    pub body: Bytes,
    /// When it was made, in milliseconds since the Unix epoch.
    pub made_at_ms: u64,
    /// Failed attempts.
    pub failures: u32,
    /// Times that it was put off without an attempt since the last one.
    pub put_off: u32,
}

impl WebhookDelivery {
    /// The delivery of a fired timer. None if the event is another one.
    pub fn of(kind: &EventKind) -> Option<Self> {
        match kind {
            EventKind::Timer { data, .. } if Self::is(kind) => postcard::from_bytes(data).ok(),
            _ => None,
        }
    }

    /// Whether an event is a delivery to a webhook, readable or not.
    pub fn is(kind: &EventKind) -> bool {
        matches!(kind, EventKind::Timer { kind, .. } if kind == KIND)
    }

    /// Whether deliveries are stored in this bucket.
    pub fn is_stored_in(bucket: &str) -> bool {
        let name = bucket.strip_prefix(TIMER_BUCKETS);
        name.is_some_and(|name| name.starts_with(BUCKETS))
    }

    /// The write that makes this delivery due at this time, in the partition of its event.
    pub fn set(&self, namespace: &Namespace, partition: Partition, due_ms: u64) -> KeyChange {
        let timer = Timer {
            namespace: namespace.clone(),
            client: None,
            // Timers of one key are in order; deliveries to different webhooks do not wait for each other.
            key: format!("{} {}", self.webhook, self.id).into(),
            kind: Text::from_static(KIND),
            data: postcard::to_stdvec(self)
                .expect("memory takes what is written to it")
                .into(),
            period_ms: None,
        };
        let bucket = Namespace::from(format!("{BUCKETS}{}", self.webhook));
        timer.set(&bucket, partition, due_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TimerEvent;

    #[test]
    fn delivery_comes_back_as_fired_timer() {
        let delivery = WebhookDelivery {
            webhook: "crm".into(),
            id: "0001-5".into(),
            body: Bytes::from_static(b"{}"),
            made_at_ms: 7,
            failures: 2,
            put_off: 0,
        };
        let write = delivery.set(&"/chat".into(), Partition(3), 100);
        assert_eq!(&*write.bucket, "plugnode:timers:webhook:crm");
        let crate::Change::Set { value, .. } = write.change else {
            panic!("not a value")
        };
        let (due_ms, timer) = Timer::read(&value).unwrap();
        assert_eq!(due_ms, 100);
        let TimerEvent::OfApp(event) = timer.fire(due_ms, 101).event else {
            panic!("it has no client")
        };
        assert_eq!(WebhookDelivery::of(&event.kind), Some(delivery));
        assert_eq!(event.namespace.as_str(), "/chat");
    }
}
