//! Dead letters: a stream in each shard, of which the oldest go when it is full.

use super::keys::Shard;
use super::stream::{Entry, EntryId, entries, page};
use super::wire::{Content, Letter, decode, encode};
use super::{Redis, batch, bytes_of, client_key, scripts, unusable};
use crate::message::EventId;
use crate::transport::{DeadContent, DeadLetter, Result, Revival};

/// How many are looked through at once.
const PAGE: usize = 100;

/// The latest of all shards, oldest first.
pub(super) async fn latest(redis: &Redis, most: usize) -> Result<Vec<DeadLetter>> {
    let mut letters = Vec::new();
    for shard in redis.layout.all() {
        let mut command = ::redis::cmd("XREVRANGE");
        command
            .arg(&shard.key("dead")[..])
            .arg("+")
            .arg("-")
            .arg("COUNT")
            .arg(most);
        let found = redis.link.try_ask(&command).await.map_err(unusable)?;
        letters.extend(entries(found).iter().rev().filter_map(letter));
    }
    letters.sort_by_key(|letter| letter.died_at_ms);
    let older = letters.len().saturating_sub(most);
    Ok(letters.drain(older..).map(DeadLetter::from).collect())
}

/// Puts a dead letter's event at the end of the log again.
pub(super) async fn revive(redis: &Redis, id: EventId) -> Result<Revival> {
    let Some((shard, entry, letter)) = find(redis, id).await? else {
        return Ok(Revival::Unknown);
    };
    let Content::Event(event) = letter.content else {
        return Ok(Revival::Foreign);
    };
    let keys = ["dead", "log", "in", "who"].map(|name| shard.key(name));
    let arguments = [
        bytes_of(entry),
        bytes_of(id.partition),
        client_key(&event),
        batch::write(std::iter::once((id.partition, &encode(&event)))),
    ];
    let answer: String = redis.change(&shard, &scripts::REVIVE, &keys, &arguments).await;
    Ok(match answer.as_str() {
        "queued" => Revival::Queued,
        "gone" => Revival::ClientGone,
        _ => Revival::Unknown,
    })
}

/// Forgets a dead letter.
pub(super) async fn bury(redis: &Redis, id: EventId) -> Result<bool> {
    let Some((shard, entry, _)) = find(redis, id).await? else {
        return Ok(false);
    };
    let mut delete = ::redis::cmd("XDEL");
    delete.arg(&shard.key("dead")[..]).arg(entry.to_string());
    redis.link.try_ask(&delete).await.map_err(unusable)
}

async fn find(redis: &Redis, id: EventId) -> Result<Option<(Shard, EntryId, Letter)>> {
    if id.partition.0 >= redis.layout.partitions {
        return Ok(None);
    }
    let shard = redis.layout.shard(redis.layout.shard_of(id.partition));
    let key = shard.key("dead");
    let mut from = EntryId::default();
    loop {
        let found = entries(redis.link.try_ask(&page(&key, from, PAGE)).await.map_err(unusable)?);
        let Some(last) = found.last() else { return Ok(None) };
        from = last.id.next();
        let wanted = found.iter().find_map(|entry| {
            let letter = letter(entry).filter(|letter| letter.id == id)?;
            Some((entry.id, letter))
        });
        if let Some((entry, letter)) = wanted {
            return Ok(Some((shard, entry, letter)));
        }
    }
}

/// Reads an entry. What is no letter of this version stays where it is, for whoever knows it.
fn letter(entry: &Entry) -> Option<Letter> {
    decode(entry.get("d")?).ok()
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
