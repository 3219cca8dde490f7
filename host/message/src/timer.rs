//! Timers: events that an app schedules, once or periodically.
//!
//! A timer is a record in a reserved bucket of the key-value store, one bucket an app. Setting, replacing and cancelling it are writes
//! of an event, committed with that event, in the partition where the timer's event will be: that of its client, or that of events
//! without a client. A transport indexes these records by due time, and removes a due record and hands on its event in one step.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::fired::Fired;
use crate::{Change, Client, Command, Event, EventKind, KeyChange, Namespace, Partition, SessionId, Text, now_ms};

/// Prefix of the buckets of timers; the app's namespace follows.
pub const TIMER_BUCKETS: &str = "plugnode:timers:";
/// Digits of the due time at the beginning of a record: enough for thirty thousand years.
const DIGITS: usize = 15;
/// Maximum due time of a timer, in milliseconds since the Unix epoch.
pub const LATEST: u64 = 10_u64.pow(DIGITS as u32) - 1;

/// A timer that is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// The namespace of its event.
    pub namespace: Namespace,
    /// The client that owns the timer; it is cancelled when that client disconnects. None: the app owns it.
    pub client: Option<SessionId>,
    /// The key that the handler gave it.
    pub key: Text,
    /// The kind of its event.
    pub kind: Text,
    /// The content of its event.
    pub data: Bytes,
    /// Period of a periodic timer.
    pub period_ms: Option<u64>,
}

/// The firing of a due timer.
#[derive(Debug, PartialEq, Eq)]
pub struct Firing {
    /// Its event, and the way it takes.
    pub event: TimerEvent,
    /// The record of its next period, for a periodic timer.
    pub next: Option<Bytes>,
}

/// The event of a timer, and the way it takes.
#[derive(Debug, PartialEq, Eq)]
pub enum TimerEvent {
    /// Through the io-node of its client, which adds the client's attributes and orders the event after the client's earlier ones.
    OfClient(SessionId, Command),
    /// Directly into the partition.
    OfApp(Event),
}

impl Timer {
    /// The write that sets this timer of an app to a due time.
    pub fn set(&self, app: &Namespace, partition: Partition, due_ms: u64) -> KeyChange {
        self.change(app, partition, Change::set(self.record(due_ms)))
    }

    /// The write that cancels the timer with this key.
    pub fn cancel(&self, app: &Namespace, partition: Partition) -> KeyChange {
        self.change(app, partition, Change::Delete)
    }

    fn change(&self, app: &Namespace, partition: Partition, change: Change) -> KeyChange {
        let key = match &self.client {
            Some(client) => format!("{}{}", names_of(partition, &self.namespace, client), self.key),
            None => format!("{partition} a {} {}", self.namespace, self.key),
        };
        KeyChange {
            bucket: format!("{TIMER_BUCKETS}{app}").into(),
            key: key.into(),
            change,
        }
    }

    /// The stored record: the due time as decimal digits, so that records sort by it, and the timer.
    fn record(&self, due_ms: u64) -> Bytes {
        let head = format!("{:0DIGITS$} ", due_ms.min(LATEST));
        postcard::to_extend(self, head.into_bytes())
            .expect("memory takes what is written to it")
            .into()
    }

    /// Reads a record: its due time and the timer.
    pub fn read(record: &[u8]) -> Option<(u64, Self)> {
        let due_ms = due_of(record)?;
        let (timer, rest) = postcard::take_from_bytes(record.get(DIGITS + 1..)?).ok()?;
        rest.is_empty().then_some((due_ms, timer))
    }

    /// Fires a timer that was due at `due_ms`. Missed periods become one event, due at the last of them.
    pub fn fire(self, due_ms: u64, now_ms: u64) -> Firing {
        let period = self.period_ms.map(|period| period.max(1));
        let missed = period.map_or(0, |period| now_ms.saturating_sub(due_ms) / period);
        let due_ms = due_ms.saturating_add(missed * period.unwrap_or_default());
        let next = period.map(|period| self.record(due_ms.saturating_add(period)));
        let fired = Fired {
            key: self.key,
            due_ms,
            missed: u32::try_from(missed).unwrap_or(u32::MAX),
            is_periodic: period.is_some(),
        };
        let (namespace, kind, data) = (self.namespace, self.kind, self.data);
        let event = match self.client {
            Some(client) => {
                let command = Command::Fire {
                    namespace,
                    client: client.clone(),
                    fired,
                    kind,
                    data,
                };
                TimerEvent::OfClient(client, command)
            }
            None => TimerEvent::OfApp(Event {
                namespace,
                client: None::<Client>,
                received_at_ms: now_ms,
                kind: EventKind::Timer { fired, kind, data },
            }),
        };
        Firing { event, next }
    }
}

/// The due time of a record, in milliseconds since the Unix epoch.
pub fn due_of(record: &[u8]) -> Option<u64> {
    std::str::from_utf8(record.get(..DIGITS)?).ok()?.parse().ok()
}

/// Whether a bucket is reserved for timers.
pub fn has_timers(bucket: &str) -> bool {
    bucket.starts_with(TIMER_BUCKETS)
}

/// The partition of a timer, by its key in the bucket.
pub fn partition_of_timer(name: &str) -> Option<Partition> {
    name.split(' ').next()?.parse().ok().map(Partition)
}

/// Prefix of the keys of a client's timers in the bucket.
pub fn names_of(partition: Partition, namespace: &Namespace, client: &SessionId) -> String {
    format!("{partition} c {namespace}\0{client} ")
}

/// The due time of a timer that is set to fire after `time_ms`.
pub fn due_in(time_ms: u64) -> u64 {
    now_ms().saturating_add(time_ms).min(LATEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timer(period_ms: Option<u64>) -> Timer {
        Timer {
            namespace: "/chat".into(),
            client: None,
            key: "tick tock".into(),
            kind: "acme.tick/1".into(),
            data: Bytes::from_static(b"data"),
            period_ms,
        }
    }

    #[test]
    fn records_round_trip() {
        let client = Timer {
            client: Some("alice".into()),
            ..timer(None)
        };
        for timer in [timer(None), timer(Some(50)), client] {
            assert_eq!(Timer::read(&timer.record(7)), Some((7, timer)));
        }
        for broken in [&b""[..], b"0000000000", b"000000000000007 ", b"x00000000000007 abc"] {
            assert_eq!(Timer::read(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn missed_periods_become_one_event() {
        let missed = |now| {
            let firing = timer(Some(100)).fire(1_000, now);
            let TimerEvent::OfApp(event) = firing.event else {
                panic!("it is the app's")
            };
            let EventKind::Timer { fired, .. } = event.kind else {
                panic!("it is a timer's")
            };
            (fired.due_ms, fired.missed, firing.next.and_then(|next| due_of(&next)))
        };
        assert_eq!(missed(1_000), (1_000, 0, Some(1_100)));
        assert_eq!(missed(1_099), (1_000, 0, Some(1_100)));
        assert_eq!(missed(1_350), (1_300, 3, Some(1_400)));
        assert_eq!(timer(None).fire(1_000, 9_000).next, None);
    }

    #[test]
    fn key_tells_the_partition() {
        let change = timer(None).set(&"/{room}".into(), Partition(41), 5);
        assert!(has_timers(&change.bucket));
        assert_eq!(partition_of_timer(&change.key), Some(Partition(41)));
    }
}
