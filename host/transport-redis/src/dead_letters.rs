//! Dead letters: one stream in each shard. A script after every addition and removal enforces the budgets of apps and
//! clients.

use std::hash::{BuildHasher, RandomState};

use async_trait::async_trait;
use bytes::Bytes;

use crate::arguments::{bytes_of, client_key};
use crate::error::unusable;
use crate::keys::Shard;
use crate::redis::Redis;
use crate::stream::{Entry, EntryId, Page, ReadCount, try_read};
use crate::wire::{DecodeError, LetterContent, StoredLetter, decode, encode};
use crate::{batch, scripts};
use plugnode_message::{EventId, Namespace};
use plugnode_transport::{DeadContent, DeadLetter, DeadLetters, Result, RetryResult, Sweep, SweepCursor, Swept};

/// Maximum number of letters in one read.
const ENTRIES: usize = 100;
/// Approximate size of one read, in bytes.
const BYTES: usize = 4 << 20;

#[async_trait]
impl DeadLetters for Redis {
    async fn dead_letters(&self, most: usize) -> Result<Vec<DeadLetter>> {
        latest(self, most).await
    }

    async fn dead_letter(&self, id: EventId) -> Result<Option<DeadLetter>> {
        one(self, id).await
    }

    async fn retry(&self, dead: EventId) -> Result<RetryResult> {
        self::retry(self, dead).await
    }

    async fn delete(&self, dead: EventId) -> Result<bool> {
        self::delete(self, dead).await
    }

    async fn sweep(&self, sweep: &Sweep, from: Option<SweepCursor>) -> Result<Swept> {
        self::sweep(self, sweep, from).await
    }
}

/// The latest letters of all shards, oldest first. Uses read-only commands, so that a read-only user may run it.
async fn latest(redis: &Redis, most: usize) -> Result<Vec<DeadLetter>> {
    let mut letters = Vec::new();
    for shard in redis.layout.all() {
        let (key, mut before, mut of_shard) = (shard.key("dead"), EntryId::LAST, Vec::new());
        let mut read_count = ReadCount::at_most(ENTRIES);
        while of_shard.len() < most {
            let entries = read_count.entries().min(most - of_shard.len());
            let found = try_read(&redis.link, "XREVRANGE", &key, before, "-", entries).await;
            let found = found.map_err(unusable)?;
            read_count.observe(found.iter());
            of_shard.extend(found.iter().filter_map(|entry| letter(redis, &shard, entry)));
            let oldest = found.last().map(|entry| entry.id);
            match oldest.and_then(EntryId::previous) {
                Some(previous) => before = previous,
                None => break,
            }
        }
        letters.extend(of_shard.into_iter().rev());
    }
    letters.sort_by_key(|letter| letter.died_at_ms);
    let older = letters.len().saturating_sub(most);
    Ok(letters.drain(older..).map(DeadLetter::from).collect())
}

/// Deletes the oldest letters of apps and clients that exceed their budgets.
pub(crate) async fn trim(redis: &Redis, shard: &Shard) {
    trim_without(redis, shard, Vec::new()).await;
}

/// Trims dead letters to their budgets after letters were deleted; the arguments of these come from [`taken_out`].
async fn trim_without(redis: &Redis, shard: &Shard, taken_out: Vec<Bytes>) {
    let keys = ["dead", "dead:order", "dead:kept"].map(|name| shard.key(name));
    let budget = redis.settings.common.dead_letters;
    let budgets = [budget, budget.of_client()];
    let budgets = budgets.iter().flat_map(|budget| [budget.letters, budget.bytes]);
    let arguments: Vec<Bytes> = budgets.map(bytes_of).chain(taken_out).collect();
    redis.link.run::<()>(&scripts::TRIM_DEAD, &keys, &arguments).await;
}

/// Key of an app in the counts of letters; empty for none.
pub(crate) fn app_key(app: Option<&Namespace>) -> Bytes {
    app.map_or_else(Bytes::new, |app| Bytes::copy_from_slice(app.as_str().as_bytes()))
}

/// The letter of this event.
async fn one(redis: &Redis, id: EventId) -> Result<Option<DeadLetter>> {
    let found = find(redis, id).await?;
    Ok(found.map(|(_, _, letter)| letter.into()))
}

/// Appends a dead letter's event to the log again.
async fn retry(redis: &Redis, id: EventId) -> Result<RetryResult> {
    match find(redis, id).await? {
        Some((shard, entry, letter)) => retry_entry(redis, &shard, &entry, letter).await,
        None => Ok(RetryResult::Unknown),
    }
}

async fn retry_entry(redis: &Redis, shard: &Shard, entry: &Entry, letter: StoredLetter) -> Result<RetryResult> {
    let id = letter.id;
    let LetterContent::Event(event) = letter.content else {
        return Ok(RetryResult::Foreign);
    };
    let mut keys = ["dead", "in", "owner", "who", "clock"]
        .map(|name| shard.key(name))
        .to_vec();
    keys.push(shard.log(id.partition));
    let arguments = [
        bytes_of(entry.id),
        bytes_of(id.partition),
        client_key(&event),
        batch::write(std::iter::once((id.partition, &encode(&event)))),
        bytes_of(format_args!("{:016x}", RandomState::new().hash_one(0))),
        shard.log_of(""),
        shard.wake(""),
    ];
    let answer: String = redis.change(shard, &scripts::RETRY_LETTER, &keys, &arguments).await;
    match answer.as_str() {
        "queued" => {
            trim_without(redis, shard, taken_out(entry)).await;
            Ok(RetryResult::Queued)
        }
        "gone" => Ok(RetryResult::ClientGone),
        _ => Ok(RetryResult::Unknown),
    }
}

/// Deletes a dead letter, and returns whether it existed.
async fn delete(redis: &Redis, id: EventId) -> Result<bool> {
    let Some((shard, entry, _)) = find(redis, id).await? else {
        return Ok(false);
    };
    Ok(delete_entries(redis, &shard, &[entry]).await? > 0)
}

/// Deletes letters of one shard, and returns how many existed.
async fn delete_entries(redis: &Redis, shard: &Shard, entries: &[Entry]) -> Result<usize> {
    if entries.is_empty() {
        return Ok(0);
    }
    let mut delete = redis::cmd("XDEL");
    delete.arg(&shard.key("dead")[..]);
    for entry in entries {
        delete.arg(entry.id.to_string());
    }
    let gone = redis.link.try_ask(&delete).await.map_err(unusable)?;
    trim_without(redis, shard, entries.iter().flat_map(taken_out).collect()).await;
    Ok(gone)
}

/// Continues a sweep with one page of one shard.
async fn sweep(redis: &Redis, sweep: &Sweep, from: Option<SweepCursor>) -> Result<Swept> {
    let (shard, from, last) = match from {
        Some(place) if place.part < redis.layout.shards => (
            redis.layout.shard(place.part),
            EntryId::from(place.from),
            EntryId::from(place.last),
        ),
        Some(_) => return Ok(Swept::default()),
        None => {
            let shard = redis.layout.shard(0);
            let last = newest(redis, &shard).await?;
            (shard, EntryId::default(), last)
        }
    };
    let mut found = page(from, ENTRIES)
        .try_read(&redis.link, &shard.key("dead"))
        .await
        .map_err(unusable)?;
    found.retain(|entry| entry.id <= last);
    let next = match found.last() {
        Some(entry) if entry.id < last => Some(SweepCursor {
            part: shard.number,
            from: entry.id.next().into(),
            last: last.into(),
        }),
        _ if shard.number + 1 < redis.layout.shards => {
            let part = shard.number + 1;
            let last = newest(redis, &redis.layout.shard(part)).await?;
            Some(SweepCursor {
                part,
                from: EntryId::default().into(),
                last: last.into(),
            })
        }
        _ => None,
    };
    let mut swept = Swept {
        letters: Vec::new(),
        seen: found.len(),
        next,
    };
    let mut deleted = Vec::new();
    for entry in found {
        let Some(letter) = letter(redis, &shard, &entry).map(DeadLetter::from) else {
            continue;
        };
        if !sweep.filter.takes(&letter) {
            continue;
        }
        if !sweep.retries {
            swept.letters.push((letter.id, None));
            deleted.push(entry);
            continue;
        }
        // Decoded again, because the conversion above consumed the stored letter.
        let Some(stored) = self::letter(redis, &shard, &entry) else {
            continue;
        };
        let result = retry_entry(redis, &shard, &entry, stored).await?;
        swept.letters.push((letter.id, Some(result)));
    }
    delete_entries(redis, &shard, &deleted).await?;
    Ok(swept)
}

/// Id of the newest letter of a shard.
async fn newest(redis: &Redis, shard: &Shard) -> Result<EntryId> {
    let found = try_read(&redis.link, "XREVRANGE", &shard.key("dead"), EntryId::LAST, "-", 1).await;
    let found = found.map_err(unusable)?;
    Ok(found.first().map(|entry| entry.id).unwrap_or_default())
}

/// Arguments of the trim script for a deleted letter.
fn taken_out(entry: &Entry) -> Vec<Bytes> {
    let field = |name| entry.get(name).cloned().unwrap_or_default();
    vec![bytes_of(entry.id), field("a"), field("c"), bytes_of(field("d").len())]
}

async fn find(redis: &Redis, id: EventId) -> Result<Option<(Shard, Entry, StoredLetter)>> {
    if id.partition.0 >= redis.layout.partitions {
        return Ok(None);
    }
    let shard = redis.layout.shard(redis.layout.shard_of(id.partition));
    let key = shard.key("dead");
    let mut from = EntryId::default();
    let mut read_count = ReadCount::at_most(ENTRIES);
    loop {
        let found = try_read(&redis.link, "XRANGE", &key, from, "+", read_count.entries()).await;
        let found = found.map_err(unusable)?;
        read_count.observe(found.iter());
        let Some(last) = found.last() else { return Ok(None) };
        from = last.id.next();
        let wanted = found.into_iter().find_map(|entry| {
            let letter = letter(redis, &shard, &entry).filter(|letter| letter.id == id)?;
            Some((entry, letter))
        });
        if let Some((entry, letter)) = wanted {
            return Ok(Some((shard, entry, letter)));
        }
    }
}

fn page(from: EntryId, entries: usize) -> Page {
    let bytes = BYTES;
    Page { from, entries, bytes }
}

/// Decodes an entry. A letter of an unknown version stays in Redis for nodes that know it.
fn letter(redis: &Redis, shard: &Shard, entry: &Entry) -> Option<StoredLetter> {
    let letter = decode(entry.get("d")?);
    if let Err(DecodeError::Version(version)) = letter {
        redis.unknown_versions.warn_once("dead letters", shard.number, version);
    }
    letter.ok()
}

impl From<StoredLetter> for DeadLetter {
    fn from(letter: StoredLetter) -> Self {
        Self {
            id: letter.id,
            content: match letter.content {
                LetterContent::Event(event) => DeadContent::Event(event.into()),
                LetterContent::Foreign(bytes) => DeadContent::Foreign(bytes),
            },
            cause: letter.cause,
            died_at_ms: letter.died_at_ms,
        }
    }
}
