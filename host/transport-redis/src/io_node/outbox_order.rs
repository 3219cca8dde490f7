//! Order of an io-node's own outbox entries and the broadcasts (see `lua/shared/outbox.lua`). It knows entries only, not Redis.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::stream::{Entry, EntryId};
use crate::wire::{BROADCAST_BYTES, OUTBOX_COMMANDS, OUTBOX_ORDER};

/// Entries of both streams that one read has found.
#[derive(Default)]
pub(crate) struct OutboxEntries {
    pub(crate) own: VecDeque<Entry>,
    pub(crate) broadcasts: VecDeque<Entry>,
    /// Whether more of its own may follow that are older than these broadcasts.
    pub(crate) has_more_own: bool,
    /// Whether broadcasts may be missing that are older than its own entries.
    pub(crate) may_lack_broadcasts: bool,
}

/// A field of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutboxField {
    pub(crate) entry: EntryId,
    pub(crate) is_broadcast: bool,
    pub(crate) name: Bytes,
    pub(crate) value: Bytes,
}

/// Entries in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct OrderedEntries {
    pub(crate) fields: Vec<OutboxField>,
    /// Last one of its own.
    pub(crate) own: Option<EntryId>,
    /// Last broadcast, and the bytes ever written up to it.
    pub(crate) broadcast: Option<(EntryId, u64)>,
}

impl OutboxEntries {
    /// Whether some of its own wait for broadcasts beyond these bytes.
    pub(crate) fn wait_for_broadcasts(&self, read: u64) -> bool {
        self.own.iter().any(|entry| broadcasts_around(entry).1 > read)
    }

    /// Puts in order what nothing older can precede. The rest is to be read again.
    pub(crate) fn in_order(mut self) -> OrderedEntries {
        let mut ordered = OrderedEntries::default();
        let last_broadcast = self.broadcasts.back().map_or(0, bytes_of_broadcasts);
        loop {
            let next = self.broadcasts.front().map(bytes_of_broadcasts);
            match (self.own.front().map(broadcasts_around), next) {
                (None, None) => return ordered,
                (None, Some(_)) if self.has_more_own => return ordered,
                (None, Some(_)) => ordered.take_broadcasts(&mut self.broadcasts, u64::MAX),
                (Some((before, _)), Some(next)) if next <= before => {
                    ordered.take_broadcasts(&mut self.broadcasts, before);
                }
                (Some((_, after)), _) if self.may_lack_broadcasts && after > last_broadcast => return ordered,
                // A call that wrote to both streams.
                (Some(call), Some(next)) if next <= call.1 => {
                    let own = self.own.iter().take_while(|entry| broadcasts_around(entry) == call);
                    let own = own.count();
                    if own == self.own.len() && self.has_more_own {
                        return ordered;
                    }
                    let first = ordered.fields.len();
                    (0..own).for_each(|_| ordered.take_own(&mut self.own));
                    ordered.take_broadcasts(&mut self.broadcasts, call.1);
                    ordered.fields[first..].sort_by_key(|field| run_number(&field.name));
                }
                (Some(_), _) => ordered.take_own(&mut self.own),
            }
        }
    }
}

impl OrderedEntries {
    fn take_own(&mut self, own: &mut VecDeque<Entry>) {
        if let Some(entry) = own.pop_front() {
            self.own = Some(entry.id);
            self.add(entry, false);
        }
    }

    /// Takes the broadcasts that end at this number of bytes at most.
    fn take_broadcasts(&mut self, broadcasts: &mut VecDeque<Entry>, up_to: u64) {
        while let Some(entry) = broadcasts.pop_front_if(|entry| bytes_of_broadcasts(entry) <= up_to) {
            self.broadcast = Some((entry.id, bytes_of_broadcasts(&entry)));
            self.add(entry, true);
        }
    }

    fn add(&mut self, entry: Entry, is_broadcast: bool) {
        let id = entry.id;
        self.fields
            .extend(entry.fields.into_iter().map(|(name, value)| OutboxField {
                entry: id,
                is_broadcast,
                name,
                value,
            }));
    }
}

/// The bytes of broadcasts before the call of an io-node's own entry, and those after it: 0 if they cannot be read.
fn broadcasts_around(entry: &Entry) -> (u64, u64) {
    let order: &[u8] = entry.get(OUTBOX_ORDER).map_or(b"", |order| order);
    let mut numbers = order.split(|byte| *byte == b' ').map(number);
    let before = numbers.next().unwrap_or_default();
    (before, numbers.next().unwrap_or_default().max(before))
}

/// The bytes of broadcasts up to this one: 0 if they cannot be read.
fn bytes_of_broadcasts(entry: &Entry) -> u64 {
    entry.get(BROADCAST_BYTES).map_or(0, |bytes| number(bytes))
}

/// Number of a run of commands in its call; 0 for another field.
fn run_number(field: &[u8]) -> u64 {
    field.strip_prefix(OUTBOX_COMMANDS.as_bytes()).map_or(0, number)
}

/// A number in decimal digits; 0 for anything else.
fn number(digits: &[u8]) -> u64 {
    let digits = std::str::from_utf8(digits).ok();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64, (name, value): (&'static str, String), runs: &[u64]) -> Entry {
        let run = |number: &u64| (format!("c{number}").into(), format!("{id}").into());
        Entry {
            id: (id, 0).into(),
            fields: [(name.into(), value.into())]
                .into_iter()
                .chain(runs.iter().map(run))
                .collect(),
        }
    }

    fn own(id: u64, order: &str, runs: &[u64]) -> Entry {
        entry(id, (OUTBOX_ORDER, order.to_owned()), runs)
    }

    /// A broadcast whose id is the number of bytes up to it.
    fn broadcast(bytes: u64, runs: &[u64]) -> Entry {
        entry(bytes, (BROADCAST_BYTES, bytes.to_string()), runs)
    }

    /// Runs in order, each as the id of its entry and its number.
    fn runs(ordered: &OrderedEntries) -> Vec<(u64, u64)> {
        let runs = ordered.fields.iter().filter(|field| field.name.starts_with(b"c"));
        runs.map(|field| (field.entry.major, run_number(&field.name))).collect()
    }

    #[test]
    fn own_entry_follows_broadcasts_before_its_call() {
        let entries = || OutboxEntries {
            own: [
                own(1_001, "0", &[0]),
                own(1_002, "20 50", &[1, 3]),
                own(1_003, "50", &[0]),
            ]
            .into(),
            broadcasts: [
                broadcast(20, &[0]),
                broadcast(30, &[0]),
                broadcast(50, &[2]),
                broadcast(60, &[0]),
            ]
            .into(),
            ..OutboxEntries::default()
        };
        let all = [
            (1_001, 0),
            (20, 0),
            (30, 0),
            (1_002, 1),
            (50, 2),
            (1_002, 3),
            (1_003, 0),
            (60, 0),
        ];
        let ordered = entries().in_order();
        assert_eq!(runs(&ordered), all);
        assert_eq!(
            (ordered.own, ordered.broadcast),
            (Some((1_003, 0).into()), Some(((60, 0).into(), 60)))
        );

        // More of its own may be older than the last broadcast.
        let ordered = OutboxEntries {
            has_more_own: true,
            ..entries()
        };
        assert_eq!(runs(&ordered.in_order()), all[..7]);

        // Without the broadcasts of its call, an entry waits.
        let mut lacking = OutboxEntries {
            may_lack_broadcasts: true,
            ..entries()
        };
        lacking.broadcasts.truncate(2);
        let ordered = lacking.in_order();
        assert_eq!(runs(&ordered), all[..2]);
        assert_eq!(
            (ordered.own, ordered.broadcast),
            (Some((1_001, 0).into()), Some(((20, 0).into(), 20)))
        );
    }

    #[test]
    fn entries_of_one_call_stay_together() {
        let entries = |has_more_own| OutboxEntries {
            own: [own(1, "0", &[0]), own(2, "0 20", &[0, 2]), own(3, "0 20", &[4])].into(),
            broadcasts: [broadcast(10, &[1]), broadcast(20, &[3, 5])].into(),
            has_more_own,
            may_lack_broadcasts: false,
        };
        let all = [(1, 0), (2, 0), (10, 1), (2, 2), (20, 3), (3, 4), (20, 5)];
        assert_eq!(runs(&entries(false).in_order()), all);
        assert_eq!(runs(&entries(true).in_order()), all[..1]);
    }

    #[test]
    fn foreign_entries_stop_nothing() {
        let foreign = |id, order: &'static str| Entry {
            id: (id, 0).into(),
            fields: vec![(OUTBOX_ORDER.into(), order.into()), ("c".into(), "x".into())],
        };
        let entries = OutboxEntries {
            own: [
                foreign(1, "x"),
                foreign(2, "9 1"),
                foreign(3, "99999999999999999999"),
                own(4, "70", &[0]),
            ]
            .into(),
            broadcasts: [foreign(50, "x"), broadcast(60, &[0])].into(),
            ..OutboxEntries::default()
        };
        let all = [(50, 0), (1, 0), (2, 0), (3, 0), (60, 0), (4, 0)];
        assert_eq!(runs(&entries.in_order()), all);
    }
}
