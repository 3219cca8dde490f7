//! Fires due timers. In each shard one app-node, the timer owner, reads those that are due and hands their events on in one script call.
//!
//! The owner sleeps until the next timer is due. Whatever sets an earlier one wakes it, by a hint (see `lua/shared/sizes.lua`). The
//! others ask again when the ownership ends unless it is renewed. The owner only saves work: two owners at once fire each timer once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::{FromRedisValue, ParsingError, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::arguments::{bytes_of, client_key_of, key_index};
use crate::keys::Shard;
use crate::redis::Redis;
use crate::wire::{CommandRun, encode};
use crate::{batch, scripts};
use plugnode_message::{Timer, TimerEvent, partition_of_timer};

/// Time from one call to the next: timers that are due meanwhile share it. A timer is late by at most this and the duration of a call.
const TOGETHER: Duration = Duration::from_millis(20);
/// TTL of the ownership.
const OWNERSHIP: Duration = Duration::from_secs(1);
/// Maximum time after which the owner renews it.
const RENEWAL: Duration = Duration::from_millis(500);
/// Maximum number of timers in one call.
const TIMERS: usize = 200;
/// Maximum size of their records in bytes, unless a single record is larger.
const BYTES: usize = 256 << 10;
/// Delay of a timer whose record this node cannot read. A node of another release may read it then.
const UNREADABLE_RETRY: Duration = Duration::from_secs(60);

/// Answer to a question for due timers.
enum DueTimers {
    /// Another node is the owner, for so many milliseconds.
    OwnedByOther(u64),
    /// The shard's time in milliseconds, the due time of the next timer, and the due ones as (bucket, name, record).
    Now(u64, Option<u64>, Vec<[Bytes; 3]>),
}

impl FromRedisValue for DueTimers {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let Value::Array(parts) = value else {
            return Err("no array".into());
        };
        let mut parts = parts.into_iter();
        let (Some(first), next) = (parts.next(), parts.next()) else {
            return Err("no time".into());
        };
        let Some(next) = next else {
            return Ok(Self::OwnedByOther(u64::from_redis_value(first)?));
        };
        let next = Option::<u64>::from_redis_value(next)?;
        let due: Vec<Bytes> = parts.map(Bytes::from_redis_value).collect::<Result<_, _>>()?;
        let (due, _) = due.as_chunks::<3>();
        Ok(Self::Now(u64::from_redis_value(first)?, next, due.to_vec()))
    }
}

/// Fires timers of a shard until the node leaves. `set` is notified when an earlier timer was set.
pub(crate) async fn run(redis: Redis, shard: Shard, member: String, set: Arc<Notify>, end: CancellationToken) {
    let firing = async {
        loop {
            let together = Instant::now() + TOGETHER;
            let next = fire_due(&redis, &shard, &member, together).await;
            // Both a wake-up and a time-out lead to the next call.
            let _ = timeout_at(next, set.notified()).await;
            sleep_until(next.min(together)).await;
        }
    };
    tokio::select! {
        () = end.cancelled() => {}
        () = firing => {}
    }
}

/// Fires the timers that are due, at most as many as go into one call. Returns the time of the next call, which is not before `together`
/// unless more timers are due.
async fn fire_due(redis: &Redis, shard: &Shard, member: &str, together: Instant) -> Instant {
    let keys = [shard.key("timers"), shard.key("timers:keeper")];
    let arguments = [
        bytes_of(member),
        bytes_of(OWNERSHIP.as_millis()),
        bytes_of(TIMERS),
        bytes_of(BYTES),
    ];
    let answer: DueTimers = redis.link.run(&scripts::DUE_TIMERS, &keys, &arguments).await;
    let answered = Instant::now();
    let (now, mut next, due) = match answer {
        DueTimers::OwnedByOther(left) => return together.max(answered + Duration::from_millis(left)),
        DueTimers::Now(now, next, due) => (now, next, due),
    };
    if !due.is_empty() {
        next = fire(redis, shard, now, due).await;
    }
    match next {
        Some(next) if next <= now => answered,
        next => {
            let pause = next.map_or(RENEWAL, |next| Duration::from_millis(next - now));
            together.max(answered + pause.min(RENEWAL))
        }
    }
}

/// Hands the events of due timers on, and returns the due time of the next timer.
async fn fire(redis: &Redis, shard: &Shard, now_ms: u64, due: Vec<[Bytes; 3]>) -> Option<u64> {
    let settings = &redis.settings;
    let mut keys: Vec<Bytes> = ["sizes", "timers", "owner", "in", "done", "who", "io", "out-all-in"]
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
