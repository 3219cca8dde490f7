//! Fires due timers. In each shard one app-node, the timer owner, polls them and hands the event of each on in one script call.
//!
//! The owner only saves work: two owners at once fire each timer once. If the owner dies, the next app-node to poll succeeds it.

use std::time::Duration;

use bytes::Bytes;
use redis::{FromRedisValue, ParsingError, Value};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::arguments::{bytes_of, client_key_of, key_index};
use crate::keys::Shard;
use crate::redis::Redis;
use crate::wire::{CommandRun, encode};
use crate::{batch, scripts};
use plugnode_message::{Timer, TimerEvent, partition_of_timer};

/// Poll interval of the owner. A timer is late by at most this and the duration of a call.
const POLL: Duration = Duration::from_millis(20);
/// TTL of the ownership; each poll renews it.
const OWNERSHIP: Duration = Duration::from_millis(500);
/// Poll interval of the other app-nodes.
const OWNER_POLL: Duration = Duration::from_millis(250);
/// Maximum number of timers in one call.
const TIMERS: usize = 200;
/// Maximum size of their records in bytes, unless a single record is larger.
const BYTES: usize = 256 << 10;
/// Delay of a timer whose record this node cannot read. A node of another release may read it then.
const UNREADABLE_RETRY: Duration = Duration::from_secs(60);
/// Pause after a call in which no event had room.
const FULL_RETRY: Duration = Duration::from_millis(100);

/// Answer to a poll.
enum DueTimers {
    /// Another node is the owner.
    OwnedByOther,
    /// The shard's time in milliseconds, the due time of the next timer, and the due ones as (bucket, name, record).
    Now(u64, Option<u64>, Vec<[Bytes; 3]>),
}

impl FromRedisValue for DueTimers {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let Value::Array(parts) = value else {
            return Err("no array".into());
        };
        let mut parts = parts.into_iter();
        let Some(now) = parts.next() else {
            return Ok(Self::OwnedByOther);
        };
        let next = Option::<u64>::from_redis_value(parts.next().unwrap_or(Value::Nil))?;
        let due: Vec<Bytes> = parts.map(Bytes::from_redis_value).collect::<Result<_, _>>()?;
        let (due, _) = due.as_chunks::<3>();
        Ok(Self::Now(u64::from_redis_value(now)?, next, due.to_vec()))
    }
}

/// Fires timers of a shard until the node leaves.
pub(crate) async fn run(redis: Redis, shard: Shard, member: String, end: CancellationToken) {
    let firing = async {
        loop {
            sleep(poll(&redis, &shard, &member).await).await;
        }
    };
    tokio::select! {
        () = end.cancelled() => {}
        () = firing => {}
    }
}

/// Polls once, and returns the pause before the next poll.
async fn poll(redis: &Redis, shard: &Shard, member: &str) -> Duration {
    let keys = [shard.key("timers"), shard.key("timers:keeper")];
    let arguments = [
        bytes_of(member),
        bytes_of(OWNERSHIP.as_millis()),
        bytes_of(TIMERS),
        bytes_of(BYTES),
    ];
    let (now, next, due) = match redis
        .link
        .run::<DueTimers>(&scripts::DUE_TIMERS, &keys, &arguments)
        .await
    {
        DueTimers::OwnedByOther => return OWNER_POLL,
        DueTimers::Now(now, next, due) => (now, next, due),
    };
    if due.is_empty() {
        let until = next.map(|next| Duration::from_millis(next.saturating_sub(now)));
        return until.map_or(POLL, |until| until.min(POLL));
    }
    match fire(redis, shard, now, due).await {
        0 => FULL_RETRY,
        // More may be due.
        _ => Duration::ZERO,
    }
}

/// Hands the events of due timers on, and returns the number of timers that were fired or deleted.
async fn fire(redis: &Redis, shard: &Shard, now_ms: u64, due: Vec<[Bytes; 3]>) -> usize {
    let settings = &redis.settings;
    let mut keys: Vec<Bytes> = ["sizes", "owner", "in", "done", "who", "io", "out-all-in"]
        .map(|name| shard.key(name))
        .to_vec();
    let mut arguments = vec![
        shard.outbox(""),
        shard.outbox_in(""),
        shard.outbox_read(""),
        bytes_of(settings.common.outbox.entries),
        bytes_of(settings.common.outbox.bytes),
        bytes_of(settings.common.backlog.events),
        shard.log_of(""),
        shard.wake(""),
    ];
    for [bucket, name, record] in due {
        let partition = std::str::from_utf8(&name).ok().and_then(partition_of_timer);
        let (Some(partition), Some((due_ms, timer))) = (partition, Timer::read(&record)) else {
            warn!(
                shard = shard.number,
                "a timer is delayed, because this node cannot read its record: run the same release of plugnode everywhere"
            );
            let mut later = redis::cmd("ZADD");
            later
                .arg(&shard.key("timers")[..])
                .arg(now_ms + UNREADABLE_RETRY.as_millis() as u64);
            later.arg([&bucket[..], b"\0", &name[..]].concat());
            redis.link.ask::<()>(&later).await;
            continue;
        };
        let namespace = timer.namespace.clone();
        let firing = timer.fire(due_ms, now_ms);
        let (client, event) = match firing.event {
            TimerEvent::OfClient(client, command) => {
                let run = CommandRun::of(&[command]);
                (client_key_of(&namespace, &client), CommandRun::join(&[&run]))
            }
            TimerEvent::OfApp(event) => {
                let batch = batch::write(std::iter::once((partition, &encode(&event))));
                (Bytes::new(), batch)
            }
        };
        let index = key_index(&mut keys, bucket);
        arguments.extend([
            bytes_of(index),
            name,
            record,
            firing.next.unwrap_or_default(),
            bytes_of(partition),
            client,
            event,
        ]);
    }
    redis.change(shard, &scripts::FIRE_TIMERS, &keys, &arguments).await
}

/// Number of pending timers.
pub(crate) async fn count(redis: &Redis) -> Result<u64, String> {
    let mut all = 0;
    for shard in redis.layout.all() {
        let mut ask = redis::cmd("ZCARD");
        ask.arg(&shard.key("timers")[..]);
        all += redis.link.try_ask::<u64>(&ask).await?;
    }
    Ok(all)
}
