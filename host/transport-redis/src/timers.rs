//! Fires timers: in each shard one app-node keeps them, looks at what is due, and has each handed on in one step.
//!
//! Which node that is does not matter for what happens, only for how much is asked. When it dies, the next to look keeps them.

use std::time::Duration;

use bytes::Bytes;
use redis::{FromRedisValue, ParsingError, Value};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::keys::Shard;
use super::wire::{Run, encode};
use super::{Redis, batch, bytes_of, bytes_of_client, place_among, scripts};
use plugnode_message::{Timer, TimerEvent, partition_of_timer};

/// How often the keeper looks at what is due. A timer is late by no more than that, and the call.
const LOOK: Duration = Duration::from_millis(20);
/// How long a node keeps the timers of a shard since it last looked,
const KEPT: Duration = Duration::from_millis(500);
/// and how often the others look whether it still does.
const LOOK_FOR_KEEPER: Duration = Duration::from_millis(250);
/// How many are fired in one call,
const TOGETHER: usize = 200;
/// and how many bytes their records have, unless one alone has more.
const BYTES: usize = 256 << 10;
/// When a timer is looked at again that cannot be read: a node of another release may be able to.
const PUT_OFF: Duration = Duration::from_secs(60);
/// How long to wait where there was no room for the event of any.
const NO_ROOM: Duration = Duration::from_millis(100);

/// What a shard has to say.
enum Due {
    /// Another node keeps its timers.
    OfAnother,
    /// The time, when the next is due, and what is due.
    Now(u64, Option<u64>, Vec<[Bytes; 3]>),
}

impl FromRedisValue for Due {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let Value::Array(parts) = value else {
            return Err("no array".into());
        };
        let mut parts = parts.into_iter();
        let Some(now) = parts.next() else {
            return Ok(Self::OfAnother);
        };
        let next = Option::<u64>::from_redis_value(parts.next().unwrap_or(Value::Nil))?;
        let due: Vec<Bytes> = parts.map(Bytes::from_redis_value).collect::<Result<_, _>>()?;
        let (due, _) = due.as_chunks::<3>();
        Ok(Self::Now(u64::from_redis_value(now)?, next, due.to_vec()))
    }
}

/// Fires timers of a shard until the node leaves.
pub(super) async fn run(redis: Redis, shard: Shard, member: String, end: CancellationToken) {
    let firing = async {
        loop {
            sleep(look(&redis, &shard, &member).await).await;
        }
    };
    tokio::select! {
        () = end.cancelled() => {}
        () = firing => {}
    }
}

/// Looks once, and says when to look again.
async fn look(redis: &Redis, shard: &Shard, member: &str) -> Duration {
    let keys = [shard.key("timers"), shard.key("timers:keeper")];
    let arguments = [
        bytes_of(member),
        bytes_of(KEPT.as_millis()),
        bytes_of(TOGETHER),
        bytes_of(BYTES),
    ];
    let (now, next, due) = match redis.link.run::<Due>(&scripts::DUE, &keys, &arguments).await {
        Due::OfAnother => return LOOK_FOR_KEEPER,
        Due::Now(now, next, due) => (now, next, due),
    };
    if due.is_empty() {
        let until = next.map(|next| Duration::from_millis(next.saturating_sub(now)));
        return until.map_or(LOOK, |until| until.min(LOOK));
    }
    match fire(redis, shard, now, due).await {
        0 => NO_ROOM,
        // There may be more.
        _ => Duration::ZERO,
    }
}

/// Has what is due handed on, and says of how many that came to something.
async fn fire(redis: &Redis, shard: &Shard, now_ms: u64, due: Vec<[Bytes; 3]>) -> usize {
    let settings = &redis.settings;
    let mut keys: Vec<Bytes> = ["sizes", "log", "in", "done", "who", "io"]
        .map(|name| shard.key(name))
        .to_vec();
    let mut arguments = vec![
        shard.outbox(""),
        shard.outbox_in(""),
        shard.outbox_read(""),
        bytes_of(settings.outbox.entries),
        bytes_of(settings.outbox.bytes),
        bytes_of(settings.backlog.events),
    ];
    for [bucket, name, record] in due {
        let partition = std::str::from_utf8(&name).ok().and_then(partition_of_timer);
        let (Some(partition), Some((due_ms, timer))) = (partition, Timer::read(&record)) else {
            warn!(shard = shard.number, "a timer is put off that this node cannot read");
            let mut later = ::redis::cmd("ZADD");
            later
                .arg(&shard.key("timers")[..])
                .arg(now_ms + PUT_OFF.as_millis() as u64);
            later.arg([&bucket[..], b"\0", &name[..]].concat());
            redis.link.ask::<()>(&later).await;
            continue;
        };
        let namespace = timer.namespace.clone();
        let firing = timer.fire(due_ms, now_ms);
        let (client, event) = match firing.event {
            TimerEvent::OfClient(client, command) => {
                let run = Run::of(&[command]);
                (bytes_of_client(&namespace, &client), Run::join(&[&run]))
            }
            TimerEvent::OfApp(event) => {
                let batch = batch::write(std::iter::once((partition, &encode(&event))));
                (Bytes::new(), batch)
            }
        };
        let place = place_among(&mut keys, bucket);
        arguments.extend([
            bytes_of(place),
            name,
            record,
            firing.next.unwrap_or_default(),
            bytes_of(partition),
            client,
            event,
        ]);
    }
    redis.change(shard, &scripts::FIRE, &keys, &arguments).await
}

/// How many timers are set.
pub(super) async fn count(redis: &Redis) -> Result<u64, String> {
    let mut all = 0;
    for shard in redis.layout.all() {
        let mut ask = ::redis::cmd("ZCARD");
        ask.arg(&shard.key("timers")[..]);
        all += redis.link.try_ask::<u64>(&ask).await?;
    }
    Ok(all)
}
