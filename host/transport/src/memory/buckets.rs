//! The key-value store of the transport in memory: buckets, keys with a time to live, reservations of keys for events that lost too many
//! conflicts, and the index of timers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::{Conflict, KEY_BYTES, Rank, TimerBudget, full_bucket};
use plugnode_message::{
    Change, Effects, KeyChange, KeyValueError, Namespace, Partition, Read, SessionId, Text, due_of, has_timers,
    integer_of, names_of, sum_of,
};

/// Maximum number of keys examined for a page.
const PAGE: usize = 1_000;
/// Maximum number of expired keys removed at once.
const EXPIRED: usize = 100;

pub(super) struct Buckets {
    /// Maximum size of a bucket, in bytes.
    most: usize,
    buckets: HashMap<Text, Bucket>,
    /// Expiry times of keys with a time to live.
    ends: BTreeSet<(Instant, Text, Text)>,
    turns: HashMap<(Text, Text), Reservation>,
    /// Budget of timers.
    budget: TimerBudget,
    /// Timers by due time: time, bucket, name.
    due: BTreeSet<(u64, Text, Text)>,
    /// Timers by name: name, bucket.
    names: BTreeSet<(Text, Text)>,
    /// Whether a timer was set since the last `take_timers_set`.
    timers_set: bool,
}

#[derive(Default)]
struct Bucket {
    values: HashMap<Text, Stored>,
    /// The keys in insertion order, which is the order of pages.
    order: BTreeMap<u64, Text>,
    /// Number of the next key.
    next: u64,
    /// Bytes of all keys and values.
    bytes: usize,
}

struct Stored {
    value: Bytes,
    number: u64,
    end: Option<Instant>,
}

/// A reservation of a key: until `end`, only this event and older ones change it.
struct Reservation {
    rank: Rank,
    end: Instant,
}

impl Buckets {
    /// Empty buckets, each of at most `most` bytes.
    pub(super) fn new(most: usize, budget: TimerBudget) -> Self {
        let (buckets, ends, turns, due, names) = Default::default();
        Self {
            most,
            buckets,
            ends,
            turns,
            budget,
            due,
            names,
            timers_set: false,
        }
    }

    /// The values of these keys, in their order.
    pub(super) fn get(&self, bucket: &str, keys: &[Text], most: usize) -> Result<Vec<Option<Bytes>>, KeyValueError> {
        let now = Instant::now();
        let mut left = most;
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            let value = self.value(bucket, key, now).cloned();
            let size = value.as_ref().map_or(0, Bytes::len);
            left = left.checked_sub(size).ok_or(KeyValueError::TooLarge(most))?;
            values.push(value);
        }
        Ok(values)
    }

    /// A page of the keys that begin with `prefix`, and the cursor of the next page.
    pub(super) fn keys(
        &self,
        bucket: &str,
        prefix: &str,
        cursor: u64,
        most: usize,
    ) -> Result<(Vec<Text>, Option<u64>), KeyValueError> {
        let now = Instant::now();
        let Some(bucket) = self.buckets.get(bucket) else {
            return Ok((Vec::new(), None));
        };
        let (mut keys, mut left) = (Vec::new(), most);
        for (looked_at, (number, key)) in bucket.order.range(cursor..).enumerate() {
            if looked_at == PAGE {
                return Ok((keys, Some(*number)));
            }
            if !key.starts_with(prefix) || bucket.values[key].is_over(now) {
                continue;
            }
            match left.checked_sub(key.len()) {
                Some(rest) => left = rest,
                None if keys.is_empty() => return Err(KeyValueError::TooLarge(most)),
                None => return Ok((keys, Some(*number))),
            }
            keys.push(key.clone());
        }
        Ok((keys, None))
    }

    /// Number of keys in a bucket.
    pub(super) fn count(&self, bucket: &str) -> u64 {
        self.buckets.get(bucket).map_or(0, |bucket| bucket.values.len() as u64)
    }

    /// The conflict that keeps an event from being committed.
    pub(super) fn conflict_of(&self, rank: Rank, effects: &Effects) -> Option<Conflict> {
        let now = Instant::now();
        let has_changed = |read: &Read| !read.seen.is(self.value(&read.bucket, &read.key, now));
        if effects.reads.iter().any(has_changed) || effects.writes.iter().any(|write| self.is_held(write, rank, now)) {
            return Some(Conflict::Changed);
        }
        let impossible = effects.writes.iter().find_map(|write| {
            let Change::Add(delta) = write.change else { return None };
            self.sum(write, delta, now).err()
        });
        let full = || {
            let full = self.full(&effects.writes);
            let (bucket, reason) = full.or_else(|| self.too_many_timers(&effects.writes))?;
            Some(Conflict::Full { bucket, reason })
        };
        impossible.map(Conflict::Impossible).or_else(full)
    }

    /// The bucket that has no room for these writes, and the error.
    fn full(&self, writes: &[KeyChange]) -> Option<(Text, String)> {
        let size = |key: &str, value: usize| key.len() + value + KEY_BYTES;
        let added = |write: &KeyChange| match &write.change {
            Change::Set { value, .. } => size(&write.key, value.len()),
            // The longest integer.
            Change::Add(_) => size(&write.key, 20),
            Change::Delete => 0,
        };
        // Fast path: there is room even if no write replaces a value.
        let most: usize = writes.iter().map(added).sum();
        let has_room = |bucket: &Bucket| bucket.bytes + most <= self.most;
        if most <= self.most
            && writes
                .iter()
                .all(|write| self.buckets.get(&write.bucket).is_none_or(has_room))
        {
            return None;
        }
        let last: HashMap<(&Text, &Text), &KeyChange> = writes
            .iter()
            .map(|write| ((&write.bucket, &write.key), write))
            .collect();
        let mut growth: HashMap<&Text, (usize, usize)> = HashMap::new();
        for ((name, key), write) in last {
            let stored = self.buckets.get(name).and_then(|bucket| bucket.values.get(key));
            let (more, less) = growth.entry(name).or_default();
            *more += added(write);
            *less += stored.map_or(0, |stored| size(key, stored.value.len()));
        }
        growth.into_iter().find_map(|(name, (more, less))| {
            let bytes = self.buckets.get(name).map_or(0, |bucket| bucket.bytes);
            (more > less && bytes + more > self.most + less)
                .then(|| (name.clone(), full_bucket(name, bytes, self.most)))
        })
    }

    /// The bucket in which these writes would set too many timers, and the error.
    fn too_many_timers(&self, writes: &[KeyChange]) -> Option<(Text, String)> {
        let mut of_app: HashMap<&Text, usize> = HashMap::new();
        let mut of_client: HashMap<(&Text, &str), usize> = HashMap::new();
        let set = |write: &&KeyChange| has_timers(&write.bucket) && matches!(write.change, Change::Set { .. });
        for write in writes.iter().filter(set) {
            let bucket = self.buckets.get(&write.bucket);
            if bucket.is_some_and(|bucket| bucket.values.contains_key(&write.key)) {
                continue;
            }
            let all = bucket.map_or(0, |bucket| bucket.values.len());
            let more = of_app.entry(&write.bucket).or_default();
            *more += 1;
            if all + *more > self.budget.of_app {
                return Some((write.bucket.clone(), self.budget.exceeded(&all.to_string())));
            }
            let Some(owner) = owner_of_timer(&write.key) else {
                continue;
            };
            let its = self
                .timers_of(owner)
                .filter(|(_, bucket)| *bucket == write.bucket)
                .count();
            let more = of_client.entry((&write.bucket, owner)).or_default();
            *more += 1;
            if its + *more > self.budget.of_client {
                return Some((
                    write.bucket.clone(),
                    self.budget.exceeded(&format!("of a client {its}")),
                ));
            }
        }
        None
    }

    /// The timers with this prefix of their names.
    fn timers_of<'a>(&'a self, owner: &'a str) -> impl Iterator<Item = &'a (Text, Text)> {
        let from = (Text::from(owner), Text::new());
        self.names
            .range(from..)
            .take_while(move |(name, _)| name.starts_with(owner))
    }

    /// Removes the timers of a client that disconnected.
    pub(super) fn drop_timers(&mut self, partition: Partition, namespace: &Namespace, client: &SessionId) {
        if self.names.is_empty() {
            return;
        }
        let owner = names_of(partition, namespace, client);
        let its: Vec<(Text, Text)> = self.timers_of(&owner).cloned().collect();
        for (name, bucket) in its {
            self.remove(&bucket, &name);
        }
    }

    /// Whether a timer was set since the last call.
    pub(super) fn take_timers_set(&mut self) -> bool {
        std::mem::take(&mut self.timers_set)
    }

    /// Due timers, earliest first: due time, bucket, name and record.
    pub(super) fn due_timers(&self, now_ms: u64, most: usize) -> Vec<(u64, Text, Text, Bytes)> {
        let due = self.due.iter().take_while(|(due_ms, ..)| *due_ms <= now_ms);
        let due = due.filter_map(|(due_ms, bucket, name)| {
            let record = self.buckets.get(bucket)?.values.get(name)?;
            Some((*due_ms, bucket.clone(), name.clone(), record.value.clone()))
        });
        due.take(most).collect()
    }

    /// Due time of the next timer.
    pub(super) fn next_timer(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, ..)| *due_ms)
    }

    /// Number of timers.
    pub(super) fn timers(&self) -> usize {
        self.names.len()
    }

    /// Replaces a fired timer by its next record, or removes it.
    pub(super) fn replace_fired(&mut self, bucket: Text, name: Text, next: Option<Bytes>) {
        match next {
            Some(next) => {
                let write = KeyChange {
                    bucket,
                    key: name,
                    change: Change::Delete,
                };
                self.set(&write, next, None);
            }
            None => self.remove(&bucket, &name),
        }
    }

    /// Applies the writes of an event without conflicts.
    pub(super) fn apply(&mut self, writes: Vec<KeyChange>) {
        if writes.is_empty() {
            return;
        }
        let now = Instant::now();
        self.expire(now);
        for write in writes {
            match &write.change {
                Change::Delete => self.remove(&write.bucket, &write.key),
                Change::Set { value, ttl_ms } => {
                    let end = ttl_ms.and_then(|ttl| now.checked_add(Duration::from_millis(ttl)));
                    self.set(&write, value.clone(), end);
                }
                Change::Add(delta) => {
                    // A value that is no integer was found as a conflict before.
                    if let Ok(sum) = self.sum(&write, *delta, now) {
                        let end = self
                            .stored(&write.bucket, &write.key, now)
                            .and_then(|stored| stored.end);
                        self.set(&write, sum.to_string().into(), end);
                    }
                }
            }
        }
    }

    /// Reserves the keys of an event that lost a conflict. True if it has all of them: an older event may hold some.
    pub(super) fn reserve_for(&mut self, rank: Rank, effects: &Effects, time: Duration) -> bool {
        let now = Instant::now();
        let end = now + time;
        let read = effects.reads.iter().map(|read| (&read.bucket, &read.key));
        let written = effects.writes.iter().map(|write| (&write.bucket, &write.key));
        let mut has_all = true;
        for (bucket, key) in read.chain(written) {
            let turn = self
                .turns
                .entry((bucket.clone(), key.clone()))
                .or_insert(Reservation { rank, end });
            if turn.end <= now || rank <= turn.rank {
                *turn = Reservation { rank, end };
            }
            has_all &= turn.rank == rank;
        }
        has_all
    }

    /// Ends the reservations of an event.
    pub(super) fn end_reservations(&mut self, rank: Rank) {
        if !self.turns.is_empty() {
            let now = Instant::now();
            self.turns.retain(|_, turn| turn.rank != rank && turn.end > now);
        }
    }

    fn stored(&self, bucket: &str, key: &str, now: Instant) -> Option<&Stored> {
        let stored = self.buckets.get(bucket)?.values.get(key)?;
        (!stored.is_over(now)).then_some(stored)
    }

    fn value(&self, bucket: &str, key: &str, now: Instant) -> Option<&Bytes> {
        self.stored(bucket, key, now).map(|stored| &stored.value)
    }

    /// Whether a key is reserved for an older event.
    fn is_held(&self, write: &KeyChange, rank: Rank, now: Instant) -> bool {
        if self.turns.is_empty() {
            return false;
        }
        let turn = self.turns.get(&(write.bucket.clone(), write.key.clone()));
        turn.is_some_and(|turn| turn.rank < rank && turn.end > now)
    }

    /// The sum of an addition, or why it is impossible.
    fn sum(&self, write: &KeyChange, delta: i64, now: Instant) -> Result<i64, String> {
        let (bucket, key) = (&write.bucket, &write.key);
        let number = match self.value(bucket, key, now) {
            None => 0,
            Some(value) => integer_of(value)
                .ok_or_else(|| format!("cannot add to key {key:?} of bucket {bucket:?}: its value is no integer"))?,
        };
        sum_of(number, delta)
            .ok_or_else(|| format!("cannot add to key {key:?} of bucket {bucket:?}: the sum is too large"))
    }

    fn set(&mut self, write: &KeyChange, value: Bytes, end: Option<Instant>) {
        let KeyChange { bucket: name, key, .. } = write;
        if has_timers(name) {
            self.forget_due(name, key);
            if let Some(due_ms) = due_of(&value) {
                self.due.insert((due_ms, name.clone(), key.clone()));
                self.names.insert((key.clone(), name.clone()));
                self.timers_set = true;
            }
        }
        let bucket = self.buckets.entry(name.clone()).or_default();
        let before = bucket.values.get_mut(key);
        let end_before = match before {
            Some(stored) => {
                bucket.bytes = bucket.bytes + value.len() - stored.value.len();
                stored.value = value;
                std::mem::replace(&mut stored.end, end)
            }
            None => {
                let number = bucket.next;
                bucket.next += 1;
                bucket.bytes += key.len() + value.len() + KEY_BYTES;
                bucket.order.insert(number, key.clone());
                bucket.values.insert(key.clone(), Stored { value, number, end });
                None
            }
        };
        if end_before == end {
            return;
        }
        if let Some(end) = end_before {
            self.ends.remove(&(end, name.clone(), key.clone()));
        }
        if let Some(end) = end {
            self.ends.insert((end, name.clone(), key.clone()));
        }
    }

    /// Removes a timer from the indexes.
    fn forget_due(&mut self, name: &Text, key: &Text) {
        let stored = self.buckets.get(name).and_then(|bucket| bucket.values.get(key));
        let Some(due_ms) = stored.and_then(|stored| due_of(&stored.value)) else {
            return;
        };
        self.due.remove(&(due_ms, name.clone(), key.clone()));
        self.names.remove(&(key.clone(), name.clone()));
    }

    fn remove(&mut self, name: &Text, key: &Text) {
        if has_timers(name) {
            self.forget_due(name, key);
        }
        let Some(bucket) = self.buckets.get_mut(name) else {
            return;
        };
        let Some(stored) = bucket.values.remove(key) else {
            return;
        };
        bucket.order.remove(&stored.number);
        bucket.bytes -= key.len() + stored.value.len() + KEY_BYTES;
        if bucket.values.is_empty() {
            self.buckets.remove(name);
        }
        if let Some(end) = stored.end {
            self.ends.remove(&(end, name.clone(), key.clone()));
        }
    }

    /// Removes expired keys, a bounded number a call.
    fn expire(&mut self, now: Instant) {
        for _ in 0..EXPIRED {
            let Some((_, bucket, key)) = self.ends.first().filter(|(end, ..)| *end <= now).cloned() else {
                return;
            };
            self.remove(&bucket, &key);
        }
    }
}

/// The prefix of the names of a client's timers, if this is one of them.
fn owner_of_timer(name: &str) -> Option<&str> {
    let (partition, rest) = name.split_once(" c ")?;
    let client = rest.split(' ').next()?;
    name.get(..partition.len() + 3 + client.len() + 1)
}

impl Stored {
    fn is_over(&self, now: Instant) -> bool {
        self.end.is_some_and(|end| end <= now)
    }
}
