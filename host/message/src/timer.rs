//! Timers: events that an app asks to be given at a time, or again and again.
//!
//! A timer is a record in a bucket of the key-value store that no handler can open, one bucket an app. So it is set, replaced and
//! cancelled by the writes of an event, committed with it, and in the place where its event will be: the partition of its
//! client, or the one of events from nobody. A transport keeps these records by when they are due, and in one step takes one
//! that is due and hands its event on.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Change, Client, Command, Event, EventKind, KeyChange, Namespace, Partition, SessionId, Text, now_ms};

/// What the buckets of timers are called, before the app's namespace.
pub const TIMER_BUCKETS: &str = "plugnode:timers:";
/// How many digits a time has at the beginning of a record: enough for thirty thousand years.
const DIGITS: usize = 15;
/// The latest time that a timer can have, in milliseconds since the Unix epoch.
pub const LATEST: u64 = 10_u64.pow(DIGITS as u32) - 1;

/// A timer that is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// The namespace of its event.
    pub namespace: Namespace,
    /// The client that it belongs to, and goes with; none belongs to the app.
    pub client: Option<SessionId>,
    /// What the handler calls it.
    pub key: Text,
    /// The kind of its event.
    pub kind: Text,
    /// The content of its event.
    pub data: Bytes,
    /// The time between two events, when there is more than one.
    pub period_ms: Option<u64>,
}

/// A timer that is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fired {
    /// What the handler calls it.
    pub key: Text,
    /// When it was due, in milliseconds since the Unix epoch.
    pub due_ms: u64,
    /// How many events before this one were left out, since nothing could be handled when they were due.
    pub missed: u32,
}

/// What becomes of a timer that is due.
#[derive(Debug, PartialEq, Eq)]
pub struct Firing {
    /// What hands its event on.
    pub event: TimerEvent,
    /// The record that takes its place, if it goes on.
    pub next: Option<Bytes>,
}

/// How the event of a timer goes its way.
#[derive(Debug, PartialEq, Eq)]
pub enum TimerEvent {
    /// By the io-node of its client, which knows the client's attributes and puts the event behind its earlier ones.
    OfClient(SessionId, Command),
    /// Straight into the partition.
    OfApp(Event),
}

impl Timer {
    /// The write that sets it to a time, for an app, in this partition.
    pub fn set(&self, app: &Namespace, partition: Partition, due_ms: u64) -> KeyChange {
        self.change(app, partition, Change::set(self.record(due_ms)))
    }

    /// The write that cancels the timer of this name.
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

    /// As it is kept: the time first, as decimal digits, for those who sort by it.
    fn record(&self, due_ms: u64) -> Bytes {
        let head = format!("{:0DIGITS$} ", due_ms.min(LATEST));
        postcard::to_extend(self, head.into_bytes())
            .expect("memory takes what is written to it")
            .into()
    }

    /// Reads a record, and when it is due.
    pub fn read(record: &[u8]) -> Option<(u64, Self)> {
        let due_ms = due_of(record)?;
        let (timer, rest) = postcard::take_from_bytes(record.get(DIGITS + 1..)?).ok()?;
        rest.is_empty().then_some((due_ms, timer))
    }

    /// What becomes of it at this time, when it was due at that. What it missed comes as one event.
    pub fn fire(self, due_ms: u64, now_ms: u64) -> Firing {
        let period = self.period_ms.map(|period| period.max(1));
        let missed = period.map_or(0, |period| now_ms.saturating_sub(due_ms) / period);
        let next = period.map(|period| self.record(due_ms + (missed + 1) * period));
        let fired = Fired {
            key: self.key,
            due_ms,
            missed: u32::try_from(missed).unwrap_or(u32::MAX),
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

/// When a record is due, in milliseconds since the Unix epoch.
pub fn due_of(record: &[u8]) -> Option<u64> {
    std::str::from_utf8(record.get(..DIGITS)?).ok()?.parse().ok()
}

/// Whether a bucket has timers in it.
pub fn has_timers(bucket: &str) -> bool {
    bucket.starts_with(TIMER_BUCKETS)
}

/// The partition that the name of a timer is in.
pub fn partition_of_timer(name: &str) -> Option<Partition> {
    name.split(' ').next()?.parse().ok().map(Partition)
}

/// What the names of a client's timers begin with.
pub fn names_of(partition: Partition, namespace: &Namespace, client: &SessionId) -> String {
    format!("{partition} c {namespace}\0{client} ")
}

/// A time from now, as a timer has it.
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
    fn is_read_as_it_is_written() {
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
    fn missed_periods_come_as_one() {
        let missed = |now| {
            let firing = timer(Some(100)).fire(1_000, now);
            let TimerEvent::OfApp(event) = firing.event else {
                panic!("it is the app's")
            };
            let EventKind::Timer { fired, .. } = event.kind else {
                panic!("it is a timer's")
            };
            (fired.missed, firing.next.and_then(|next| due_of(&next)))
        };
        assert_eq!(missed(1_000), (0, Some(1_100)));
        assert_eq!(missed(1_099), (0, Some(1_100)));
        assert_eq!(missed(1_350), (3, Some(1_400)));
        assert_eq!(timer(None).fire(1_000, 9_000).next, None);
    }

    #[test]
    fn name_tells_the_partition() {
        let change = timer(None).set(&"/{room}".into(), Partition(41), 5);
        assert!(has_timers(&change.bucket));
        assert_eq!(partition_of_timer(&change.key), Some(Partition(41)));
    }
}
