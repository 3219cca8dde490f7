//! Dead letters: a stream in each shard, kept within the budgets of apps and clients by a script that comes after each that
//! adds or takes out.

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;

use super::keys::Shard;
use super::stream::{Entry, EntryId, Page};
use super::wire::{Content, Letter, Unread, decode, encode};
use super::{Redis, batch, bytes_of, client_key, scripts, unusable};
use crate::message::{EventId, Namespace};
use crate::transport::{DeadContent, DeadLetter, Result, Revival};

/// How many are looked through at once,
const ENTRIES: usize = 100;
/// and how many bytes, about.
const BYTES: usize = 4 << 20;

/// The latest of all shards, oldest first.
pub(super) async fn latest(redis: &Redis, most: usize) -> Result<Vec<DeadLetter>> {
    let mut letters = Vec::new();
    for shard in redis.layout.all() {
        let (key, mut before, mut of_shard) = (shard.key("dead"), EntryId::LAST, Vec::new());
        while of_shard.len() < most {
            let page = page(before, most - of_shard.len());
            let found = page.try_read_back(&redis.link, &key).await.map_err(unusable)?;
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

/// Takes out what is over the budgets of apps and clients.
pub(super) async fn trim(redis: &Redis, shard: &Shard) {
    trim_without(redis, shard, Vec::new()).await;
}

/// The same after a letter was taken out.
async fn trim_without(redis: &Redis, shard: &Shard, taken_out: Vec<Bytes>) {
    let keys = ["dead", "dead:order", "dead:kept"].map(|name| shard.key(name));
    let budget = redis.settings.dead_letters;
    let budgets = [budget, budget.of_client()];
    let budgets = budgets.iter().flat_map(|budget| [budget.letters, budget.bytes]);
    let arguments: Vec<Bytes> = budgets.map(bytes_of).chain(taken_out).collect();
    redis.link.run::<()>(&scripts::TRIM_DEAD, &keys, &arguments).await;
}

/// What letters of an app are counted under; empty for those of none.
pub(super) fn app_key(app: Option<&Namespace>) -> Bytes {
    app.map_or_else(Bytes::new, |app| Bytes::copy_from_slice(app.as_str().as_bytes()))
}

/// The one of this id.
pub(super) async fn one(redis: &Redis, id: EventId) -> Result<Option<DeadLetter>> {
    let found = find(redis, id).await?;
    Ok(found.map(|(_, _, letter)| letter.into()))
}

/// Puts a dead letter's event at the end of the log again.
pub(super) async fn revive(redis: &Redis, id: EventId) -> Result<Revival> {
    let Some((shard, entry, letter)) = find(redis, id).await? else {
        return Ok(Revival::Unknown);
    };
    let taken_out = taken_out(&entry);
    let Content::Event(event) = letter.content else {
        return Ok(Revival::Foreign);
    };
    let keys = ["dead", "log", "in", "who", "clock"].map(|name| shard.key(name));
    let arguments = [
        bytes_of(entry.id),
        bytes_of(id.partition),
        client_key(&event),
        batch::write(std::iter::once((id.partition, &encode(&event)))),
        bytes_of(format_args!("{:016x}", RandomState::new().hash_one(0))),
    ];
    let answer: String = redis.change(&shard, &scripts::REVIVE, &keys, &arguments).await;
    match answer.as_str() {
        "queued" => {
            trim_without(redis, &shard, taken_out).await;
            Ok(Revival::Queued)
        }
        "gone" => Ok(Revival::ClientGone),
        "blocked" => Err(unusable(format!(
            "the log of shard {} takes nothing: an entry with too great an id stands in it; it is put aside as soon as an \
             app-node runs: start one, and try again",
            shard.number
        ))),
        _ => Ok(Revival::Unknown),
    }
}

/// Forgets a dead letter.
pub(super) async fn bury(redis: &Redis, id: EventId) -> Result<bool> {
    let Some((shard, entry, _)) = find(redis, id).await? else {
        return Ok(false);
    };
    let mut delete = ::redis::cmd("XDEL");
    delete.arg(&shard.key("dead")[..]).arg(entry.id.to_string());
    let is_gone = redis.link.try_ask(&delete).await.map_err(unusable)?;
    trim_without(redis, &shard, taken_out(&entry)).await;
    Ok(is_gone)
}

/// A letter that was taken out, as the script is told of it.
fn taken_out(entry: &Entry) -> Vec<Bytes> {
    let field = |name| entry.get(name).cloned().unwrap_or_default();
    vec![bytes_of(entry.id), field("a"), field("c"), bytes_of(field("d").len())]
}

async fn find(redis: &Redis, id: EventId) -> Result<Option<(Shard, Entry, Letter)>> {
    if id.partition.0 >= redis.layout.partitions {
        return Ok(None);
    }
    let shard = redis.layout.shard(redis.layout.shard_of(id.partition));
    let key = shard.key("dead");
    let mut from = EntryId::default();
    loop {
        let found = page(from, ENTRIES)
            .try_read(&redis.link, &key)
            .await
            .map_err(unusable)?;
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
    let (entries, bytes) = (entries.min(ENTRIES), BYTES);
    Page { from, entries, bytes }
}

/// Reads an entry. What is no letter of this version stays where it is, for whoever knows it.
fn letter(redis: &Redis, shard: &Shard, entry: &Entry) -> Option<Letter> {
    let letter = decode(entry.get("d")?);
    if let Err(Unread::Version(version)) = letter {
        redis.strangers.tell("dead letters", shard.number, version);
    }
    letter.ok()
}

impl From<Letter> for DeadLetter {
    fn from(letter: Letter) -> Self {
        Self {
            id: letter.id,
            content: match letter.content {
                Content::Event(event) => DeadContent::Event(event.into()),
                Content::Foreign(bytes) => DeadContent::Foreign(bytes),
            },
            death: letter.death,
            died_at_ms: letter.died_at_ms,
        }
    }
}
