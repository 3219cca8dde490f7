//! The key-value store: a hash for each bucket and shard.
//!
//! Reads have a connection of their own, so that large answers hold up nothing else, and are answered in parts: no call
//! makes Redis or this process load more than it must. A key that lives for a time stands in `ends` as well, and is not seen
//! once that time is over.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::keys::Shard;
use super::{Redis, bytes_of, scripts};
use plugnode_message::{KeyValue, KeyValueError, Text};

/// About so many keys are in one page,
const PAGE: usize = 1_000;
/// and, where values are large, as many as have so many bytes with them.
const PAGE_BYTES: usize = 4 << 20;
/// Bytes of values in one answer, unless one alone has more,
const ANSWER: usize = 256 << 10;
/// and keys that one call asks for.
const KEYS: usize = 1_000;
/// How soon Redis answers something small if it is there.
const THERE: Duration = Duration::from_millis(250);

#[async_trait]
impl KeyValue for Redis {
    async fn get(&self, bucket: &str, keys: &[Text], most: usize) -> Result<Vec<Option<Bytes>>, KeyValueError> {
        let mut values = vec![None; keys.len()];
        let mut left = most;
        if self.layout.shards == 1 {
            let places: Vec<usize> = (0..keys.len()).collect();
            let shard = self.layout.shard(0);
            let part = Part {
                shard,
                bucket,
                keys,
                most,
            };
            self.read(part, &places, &mut left, &mut values).await?;
            return Ok(values);
        }
        let mut by_shard = vec![Vec::new(); usize::from(self.layout.shards)];
        for (place, key) in keys.iter().enumerate() {
            by_shard[usize::from(self.layout.shard_of_key(bucket, key))].push(place);
        }
        for (shard, places) in self.layout.all().zip(by_shard).filter(|(_, places)| !places.is_empty()) {
            self.is_forwarded(shard.number).await?;
            let part = Part {
                shard,
                bucket,
                keys,
                most,
            };
            self.read(part, &places, &mut left, &mut values).await?;
        }
        Ok(values)
    }

    /// Cursors count through the shards: what Redis gives as the cursor of a shard, times the shards, and the shard.
    async fn keys(
        &self,
        bucket: &str,
        prefix: &str,
        cursor: u64,
        most: usize,
    ) -> Result<(Vec<Text>, Option<u64>), KeyValueError> {
        let shards = u64::from(self.layout.shards);
        let (number, from) = ((cursor % shards) as u16, cursor / shards);
        let shard = self.layout.shard(number);
        self.is_forwarded(number).await?;
        let names = [shard.bucket(bucket), shard.key("ends")];
        let arguments = [
            bytes_of(from),
            Bytes::copy_from_slice(prefix.as_bytes()),
            bytes_of(PAGE),
            bytes_of(most),
            bytes_of(PAGE_BYTES),
        ];
        let found: Vec<Bytes> = self
            .reads
            .try_run(&scripts::KEYS, &names, &arguments)
            .await
            .map_err(KeyValueError::Unavailable)?;
        let mut found = found.into_iter();
        let next = found
            .next()
            .and_then(|next| std::str::from_utf8(&next).ok()?.parse::<u64>().ok());
        let next = next.ok_or(KeyValueError::TooLarge(most))?;
        // A handler's keys are text; what is not was put there by somebody else.
        let keys = found.filter_map(|key| Text::try_from(key).ok());
        let next = match next {
            0 if u64::from(number) + 1 == shards => None,
            0 => Some(u64::from(number) + 1),
            next => Some(next * shards + u64::from(number)),
        };
        Ok((keys.collect(), next))
    }

    /// In all shards, as they may be on several servers: on the connection of reads and on that of everything else, by which is
    /// brought what reads wait for; and nothing is on its way. A connection that is newer than the question may have held it up.
    async fn has_answered_since(&self, asked: Instant) -> bool {
        let in_shards = self.layout.all().map(|shard| async move {
            let mut ping = ::redis::cmd("EXISTS");
            ping.arg(&shard.key("meta")[..]);
            // A connection of reads that is dead is found out by this.
            let reads = self.reads.has_answered_since(asked, &ping);
            let other = async {
                let answered = timeout(THERE, self.link.has_answered_since(asked, &ping)).await;
                let is_forwarded = timeout(THERE, self.is_forwarded(shard.number)).await;
                matches!((answered, is_forwarded), (Ok(true), Ok(Ok(()))))
            };
            let (reads, other) = tokio::join!(reads, other);
            reads && other
        });
        join_all(in_shards).await.into_iter().all(|is_there| is_there)
    }
}

/// What of a read is in one shard.
struct Part<'a> {
    shard: Shard,
    bucket: &'a str,
    keys: &'a [Text],
    most: usize,
}

impl Redis {
    /// Reads the values of the keys at these places, in parts.
    async fn read(
        &self,
        part: Part<'_>,
        mut places: &[usize],
        left: &mut usize,
        values: &mut [Option<Bytes>],
    ) -> Result<(), KeyValueError> {
        let mut names = vec![part.shard.bucket(part.bucket), part.shard.key("ends")];
        // What is committed in another shard may be on its way here, and whoever wrote it may have been told.
        if self.layout.shards > 1 {
            names.push(part.shard.key("locks"));
        }
        while !places.is_empty() {
            let asked = &places[..places.len().min(KEYS)];
            let mut arguments = vec![bytes_of(ANSWER), bytes_of(*left)];
            arguments.extend(asked.iter().map(|place| part.keys[*place].clone().into_bytes()));
            let read = async |names: &[Bytes]| {
                let answer = self.reads.try_run::<Answer>(&scripts::READ, names, &arguments).await;
                answer.map_err(KeyValueError::Unavailable)
            };
            let mut answer = read(&names).await?;
            if self.have_arrived(&part.shard, &answer.held).await {
                // What was committed before the first look is there now; what is locked since does not matter.
                answer = read(&names[..2]).await?;
            }
            let Answer { answered, found, .. } = answer;
            if answered < 1 {
                return Err(KeyValueError::TooLarge(part.most));
            }
            let (now, later) = places.split_at((answered as usize).min(asked.len()));
            for (place, value) in now.iter().zip(found) {
                *left = left.saturating_sub(value.as_ref().map_or(0, Bytes::len));
                values[*place] = value;
            }
            places = later;
        }
        Ok(())
    }
}

/// What one call has read.
struct Answer {
    /// How many keys are answered.
    answered: i64,
    /// Names and locks of those that are locked.
    held: Vec<Bytes>,
    /// Their values.
    found: Vec<Option<Bytes>>,
}

impl ::redis::FromRedisValue for Answer {
    fn from_redis_value(value: ::redis::Value) -> Result<Self, ::redis::ParsingError> {
        let ::redis::Value::Array(parts) = value else {
            return Err("no array".into());
        };
        let mut parts = parts.into_iter();
        let answered = i64::from_redis_value(parts.next().unwrap_or(::redis::Value::Nil))?;
        let held = Vec::<Bytes>::from_redis_value(parts.next().unwrap_or(::redis::Value::Nil))?;
        let values = parts.map(Option::<Bytes>::from_redis_value);
        Ok(Self {
            answered,
            held,
            found: values.collect::<Result<_, _>>()?,
        })
    }
}
