//! How what events write to the key-value store rests on what they have read there.
//!
//! Before an event is committed, every key that it has read or written is locked for it: in each shard by one script, which
//! looks whether what was read is still there; shard by shard in one order, all keys or none. With the locks, nobody else
//! changes these keys until the event is committed, its writes have reached other shards, and the locks are ended. A lock whose
//! holder has died says who that was: whoever meets it looks whether the event is committed, or never will be.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use redis::{FromRedisValue, ParsingError, Value};

use super::keys::{Layout, Shard};
use super::lease::Hold;
use super::progress::Progress;
use super::{Redis, bytes_of, scripts};
use plugnode_message::{Change, EventId, KeyChange, Partition, Read, Seen, Text, Write, integer_of, sha1_of, sum_of};
use plugnode_transport::{Conflict, Lost, full_bucket};

/// Values up to this size are compared as they are, longer ones by their SHA-1.
const AS_IT_IS: usize = 40;
/// How many keys whose time is over are deleted with each call that ends locks.
const EXPIRED: usize = 50;
/// Counts the tries of this process.
static TRIES: AtomicU64 = AtomicU64::new(1);

/// What an event has to do with the store.
pub(super) struct Use {
    id: EventId,
    /// Its rank, as text.
    rank: String,
    /// For how many milliseconds its turn is kept if it loses; 0 for not.
    turn_ms: u64,
    /// Tells this try from others of the same event.
    mark: u64,
    reads: Vec<Read>,
    changes: Vec<KeyChange>,
    /// What the keys that it adds to have at present, once they are locked.
    sums: HashMap<(Text, Text), i64>,
}

/// An event that cannot be committed now.
pub(super) struct Refusal {
    pub(super) lost: Lost,
    /// Whether it is only that another holds a key, and the event has read nothing: then it may be tried again as it is.
    pub(super) may_wait: bool,
}

impl Use {
    pub(super) fn new(id: EventId, rank: String, turn_ms: u64, reads: Vec<Read>, changes: Vec<KeyChange>) -> Self {
        Self {
            id,
            rank,
            turn_ms,
            mark: TRIES.fetch_add(1, Ordering::Relaxed),
            reads,
            changes,
            sums: HashMap::new(),
        }
    }

    pub(super) fn id(&self) -> EventId {
        self.id
    }

    /// Its writes as they are carried out, now that the keys are locked.
    pub(super) fn writes(&self) -> Vec<Write> {
        let writes = self.changes.iter().map(|change| {
            let KeyChange { bucket, key, change } = change;
            Write {
                value: match change {
                    Change::Set { value, .. } => Some(value.clone()),
                    Change::Delete => None,
                    Change::Add(_) => {
                        let sum = self.sums.get(&(bucket.clone(), key.clone()));
                        sum.map(|sum| sum.to_string().into())
                    }
                },
                bucket: bucket.clone(),
                key: key.clone(),
            }
        });
        writes.collect()
    }

    /// Its keys, each once, by shard.
    fn keys(&self, layout: &Layout) -> BTreeMap<u16, Vec<(&Text, &Text)>> {
        let reads = self.reads.iter().map(|read| (&read.bucket, &read.key));
        let changes = self.changes.iter().map(|change| (&change.bucket, &change.key));
        let mut keys: BTreeMap<u16, Vec<(&Text, &Text)>> = BTreeMap::new();
        for (bucket, key) in reads.chain(changes) {
            let shard = layout.shard_of_key(bucket, key);
            keys.entry(shard).or_default().push((bucket, key));
        }
        for keys in keys.values_mut() {
            keys.sort_unstable();
            keys.dedup();
        }
        keys
    }

    /// Whose its locks are: this try's, under this lease. Another process may have had a try of the same mark.
    fn holder(&self, lease: &str) -> Bytes {
        let Self { id, rank, mark, .. } = self;
        bytes_of(format_args!("{rank} {} {} {mark} {lease}", id.partition, id.sequence))
    }

    /// The sum that an addition leads to, or why to none.
    fn add(&mut self, bucket: Text, key: Text, delta: i64, value: Option<&Bytes>) -> Result<(), String> {
        let number = match value {
            None => Some(0),
            Some(value) => integer_of(value),
        };
        let number =
            number.ok_or_else(|| format!("cannot add to key {key:?} of bucket {bucket:?}: its value is no integer"))?;
        let sum = sum_of(number, delta)
            .ok_or_else(|| format!("cannot add to key {key:?} of bucket {bucket:?}: the sum is too large"))?;
        self.sums.insert((bucket, key), sum);
        Ok(())
    }
}

/// What a shard says of an event.
struct Answer {
    number: u64,
    why: String,
    is_kept: bool,
    /// The name of a key that is locked, and the lock.
    held: (Bytes, String),
    /// The values of the keys that it adds to.
    values: Vec<Option<Bytes>>,
}

impl FromRedisValue for Answer {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let Value::Array(parts) = value else {
            return Err("no array".into());
        };
        let mut parts = parts.into_iter();
        let mut next = || parts.next().unwrap_or(Value::Nil);
        Ok(Self {
            number: u64::from_redis_value(next())?,
            why: String::from_redis_value(next())?,
            is_kept: String::from_redis_value(next())? == "kept",
            held: (Bytes::from_redis_value(next())?, String::from_redis_value(next())?),
            values: parts.map(Option::<Bytes>::from_redis_value).collect::<Result<_, _>>()?,
        })
    }
}

impl Redis {
    /// Locks all keys of these events. Those for which that cannot be are returned, and have no locks.
    pub(super) async fn lock(&self, hold: &Hold, uses: &mut [&mut Use]) -> Vec<Refusal> {
        let mut refused: Vec<Refusal> = Vec::new();
        // One shard after the other, in one order for all: so two events never wait for each other.
        for number in 0..self.layout.shards {
            let shard = self.layout.shard(number);
            let is_refused = |id| refused.iter().any(|refusal: &Refusal| refusal.lost.id == id);
            let here: Vec<&&mut Use> = uses.iter().filter(|used| !is_refused(used.id)).collect();
            let answers = self
                .ask_locks("lock", &shard, hold, here.iter().map(|used| &***used))
                .await;
            for answer in answers {
                let Some(used) = uses.iter_mut().find(|used| used.id.sequence == answer.number) else {
                    continue;
                };
                if answer.why == "locked" && used.turn_ms > 0 {
                    self.look_at_lock(&shard, &answer.held.0, &answer.held.1).await;
                }
                let conflict = match answer.why.as_str() {
                    "ok" => self.add_up(&shard, used, answer.values).err().map(Conflict::Impossible),
                    "full" => Some(Conflict::Impossible(self.full(&shard, &answer.held))),
                    "timers" => Some(Conflict::Impossible(self.settings.timers.exceeded(&answer.held.1))),
                    _ => Some(Conflict::Changed),
                };
                let Some(conflict) = conflict else { continue };
                refused.push(Refusal {
                    may_wait: answer.why == "locked" && used.reads.is_empty(),
                    lost: Lost {
                        id: used.id,
                        conflict,
                        has_turn: answer.is_kept,
                    },
                });
            }
        }
        let is_refused = |used: &&&mut Use| refused.iter().any(|refusal| refusal.lost.id == used.id);
        let in_vain: Vec<&Use> = uses.iter().filter(is_refused).map(|used| &**used).collect();
        self.unlock("void", hold, &in_vain).await;
        if self.layout.shards > 1 {
            self.keep_turns(hold, &in_vain, &mut refused).await;
        }
        refused
    }

    /// Ends the locks of events: `done` of those that are committed, `void` of others.
    pub(super) async fn unlock(&self, how: &'static str, hold: &Hold, uses: &[&Use]) {
        let mut shards: BTreeMap<u16, Vec<Bytes>> = BTreeMap::new();
        for used in uses {
            for (number, keys) in used.keys(&self.layout) {
                let shard = self.layout.shard(number);
                let names = keys.into_iter().map(|(bucket, key)| name_of(&shard, bucket, key));
                let locks = names.flat_map(|name| [name, used.holder(&hold.lease)]);
                shards.entry(number).or_default().extend(locks);
            }
        }
        for (number, locks) in shards {
            self.end_locks(&self.layout.shard(number), how, locks).await;
        }
    }

    async fn end_locks(&self, shard: &Shard, how: &'static str, locks: Vec<Bytes>) {
        let arguments = [vec![Bytes::from_static(how.as_bytes()), bytes_of(EXPIRED)], locks].concat();
        self.change::<()>(shard, &scripts::UNLOCK, &store_keys(shard), &arguments)
            .await;
    }

    /// What a shard says of those of these events that have keys there.
    async fn ask_locks<'a>(
        &self,
        mode: &'static str,
        shard: &Shard,
        hold: &Hold,
        uses: impl Iterator<Item = &'a Use>,
    ) -> Vec<Answer> {
        let mut items = Items::new(shard);
        let has_keys = |used: &&Use| used.keys(&self.layout).contains_key(&shard.number);
        uses.filter(has_keys).for_each(|used| items.add(&self.layout, used));
        if items.items.is_empty() {
            return Vec::new();
        }
        let mut arguments = vec![
            Bytes::from_static(mode.as_bytes()),
            bytes_of(hold.partition),
            bytes_of(&hold.lease),
            bytes_of(self.settings.bucket_bytes / usize::from(self.layout.shards)),
            bytes_of(self.settings.timers.of_app / usize::from(self.layout.shards)),
            bytes_of(self.settings.timers.of_client),
        ];
        arguments.extend(items.items);
        self.change(shard, &scripts::LOCK, &items.keys, &arguments).await
    }

    /// Why an event cannot add to a bucket that holds so many bytes in a shard.
    fn full(&self, shard: &Shard, (key, bytes): &(Bytes, String)) -> String {
        let name = key.strip_prefix(&shard.bucket("")[..]).unwrap_or(key);
        let bytes: usize = bytes.parse().unwrap_or_default();
        let shards = usize::from(self.layout.shards);
        full_bucket(
            &String::from_utf8_lossy(name),
            bytes,
            self.settings.bucket_bytes / shards,
        )
    }

    /// Adds to the values that are there.
    fn add_up(&self, shard: &Shard, used: &mut Use, values: Vec<Option<Bytes>>) -> Result<(), String> {
        let additions: Vec<(Text, Text, i64)> = used
            .changes
            .iter()
            .filter(|change| self.layout.shard_of_key(&change.bucket, &change.key) == shard.number)
            .filter_map(|change| match change.change {
                Change::Add(delta) => Some((change.bucket.clone(), change.key.clone(), delta)),
                _ => None,
            })
            .collect();
        for ((bucket, key, delta), value) in additions.into_iter().zip(values) {
            used.add(bucket, key, delta, value.as_ref())?;
        }
        Ok(())
    }

    /// Keeps the turns of events that have lost in every shard that they have to do with.
    async fn keep_turns(&self, hold: &Hold, uses: &[&Use], refused: &mut [Refusal]) {
        let wait: Vec<&Use> = uses.iter().filter(|used| used.turn_ms > 0).copied().collect();
        if wait.is_empty() {
            return;
        }
        for refusal in refused.iter_mut() {
            refusal.lost.has_turn = wait.iter().any(|used| used.id == refusal.lost.id);
        }
        for shard in self.layout.all() {
            for answer in self.ask_locks("turn", &shard, hold, wait.iter().copied()).await {
                let of_it = refused
                    .iter_mut()
                    .filter(|refusal| refusal.lost.id.sequence == answer.number);
                of_it.for_each(|refusal| refusal.lost.has_turn &= answer.is_kept);
            }
        }
    }

    /// Brings writes here that other shards have committed, for keys that are locked. Whether there may have been some.
    pub(super) async fn have_arrived(&self, shard: &Shard, held: &[Bytes]) -> bool {
        let mut is_elsewhere = false;
        for name_and_lock in held.chunks_exact(2) {
            let lock = String::from_utf8_lossy(&name_and_lock[1]);
            let partition = lock.split(' ').nth(1).and_then(|partition| partition.parse().ok());
            let home = partition.map(|partition| self.layout.shard_of(Partition(partition)));
            if home.is_some_and(|home| home != shard.number) {
                is_elsewhere = true;
                self.look_at_lock(shard, &name_and_lock[0], &lock).await;
            }
        }
        is_elsewhere
    }

    /// Ends a lock whose event is committed, or never will be: that its holder has died is not to keep others out.
    async fn look_at_lock(&self, shard: &Shard, name: &Bytes, lock: &str) {
        let words: Vec<&str> = lock.splitn(7, ' ').collect();
        let [_, partition, number, _, _, _, lease] = words[..] else {
            return;
        };
        let (Ok(partition), Ok(number)) = (partition.parse::<u16>(), number.parse::<u64>()) else {
            return;
        };
        let home = self.layout.shard(self.layout.shard_of(Partition(partition)));
        let keys = ["owner", "done", "kept"].map(|name| home.key(name));
        let arguments = [bytes_of(partition), bytes_of(number)];
        let (held_by, done, is_kept): (String, String, bool) = self.link.run(&scripts::HOLDER, &keys, &arguments).await;
        let is_committed = done.parse::<Progress>().is_ok_and(|progress| progress.has(number)) && !is_kept;
        if !is_committed && held_by == lease {
            return;
        }
        if is_committed && home.number != shard.number {
            self.forward(&home, [shard.number]).await;
        }
        let holder = bytes_of(format_args!("{} {lease}", words[..4].join(" ")));
        let how = if is_committed { "done" } else { "void" };
        self.end_locks(shard, how, vec![name.clone(), holder]).await;
    }
}

/// What events have to do with a shard, as the script takes it.
struct Items {
    shard: Shard,
    keys: Vec<Bytes>,
    places: HashMap<Bytes, usize>,
    items: Vec<Bytes>,
}

impl Items {
    fn new(shard: &Shard) -> Self {
        Self {
            shard: shard.clone(),
            keys: store_keys(shard),
            places: HashMap::new(),
            items: Vec::new(),
        }
    }

    fn add(&mut self, layout: &Layout, used: &Use) {
        let Use {
            rank, turn_ms, mark, ..
        } = used;
        let head = bytes_of(format_args!("{rank} {turn_ms} {mark}"));
        self.item(Bytes::new(), "e", bytes_of(used.id.sequence), head);
        let here = self.shard.number;
        let is_here = |bucket: &str, key: &str| layout.shard_of_key(bucket, key) == here;
        for Read { bucket, key, seen } in used.reads.iter().filter(|read| is_here(&read.bucket, &read.key)) {
            let (how, value) = match seen {
                Seen::Nothing => ("n", Bytes::new()),
                Seen::Value(value) if value.len() <= AS_IT_IS => ("v", value.clone()),
                Seen::Value(value) => ("d", hex(sha1_of(value))),
                Seen::Digest(digest) => ("d", hex(*digest)),
            };
            let place = self.place(bucket);
            self.item(place, how, key.clone().into_bytes(), value);
        }
        let changes = used.changes.iter();
        for KeyChange { bucket, key, change } in changes.filter(|change| is_here(&change.bucket, &change.key)) {
            // The values themselves are written by the commit.
            let (how, value) = match change {
                Change::Set { value, ttl_ms: None } => ("s", bytes_of(value.len())),
                Change::Set {
                    value,
                    ttl_ms: Some(ttl),
                } => ("t", bytes_of(format_args!("{ttl} {}", value.len()))),
                Change::Delete => ("x", Bytes::new()),
                Change::Add(delta) => ("a", bytes_of(delta)),
            };
            let place = self.place(bucket);
            self.item(place, how, key.clone().into_bytes(), value);
        }
    }

    fn item(&mut self, place: Bytes, how: &'static str, key: Bytes, value: Bytes) {
        self.items
            .extend([place, Bytes::from_static(how.as_bytes()), key, value]);
    }

    fn place(&mut self, bucket: &str) -> Bytes {
        let key = self.shard.bucket(bucket);
        let keys = &mut self.keys;
        let place = *self.places.entry(key.clone()).or_insert_with(|| {
            keys.push(key);
            keys.len()
        });
        bytes_of(place)
    }
}

fn store_keys(shard: &Shard) -> Vec<Bytes> {
    ["ends", "turns", "locks", "sizes"].map(|name| shard.key(name)).to_vec()
}

/// How a key of a bucket is named in these.
fn name_of(shard: &Shard, bucket: &str, key: &str) -> Bytes {
    [&shard.bucket(bucket)[..], b"\0", key.as_bytes()].concat().into()
}

fn hex(digest: [u8; 20]) -> Bytes {
    let digits = digest.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<String>().into()
}
