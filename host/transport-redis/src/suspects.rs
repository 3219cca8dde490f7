//! Events that may have been in hand when an owner of their partition died. One of them may be why, so it is noted in Redis
//! before each is begun: an event that ends its process again and again comes to be known by that, and its attempts
//! survive.
//!
//! A process that lost its lease and lives takes back what it noted: whatever happened, it was none of these events.
//!
//! Who was not noted before goes on with others. Who was, was begun at least twice: it is begun when no other such event is
//! in hand in this process, so that what happens then says something of it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::timeout;

use super::lease::{Hold, RedisCommits};
use super::{Redis, bytes_of, scripts};
use plugnode_message::Partition;
use plugnode_transport::Delivery;

/// How many events are noted in one call.
const TOGETHER: usize = 32;
/// How long it is tried to take notes back.
const PATIENCE: Duration = Duration::from_secs(10);

/// The suspects of one partition, under one lease.
#[derive(Default)]
pub(super) struct Suspects {
    /// Events up to this number may have been in hand.
    up_to: u64,
    /// How often an event was begun, as it was noted.
    begun: HashMap<u64, u32>,
    /// Read, and not handed out: suspects and what came behind them.
    waiting: VecDeque<Delivery>,
}

impl Suspects {
    /// Takes what is noted of a partition.
    pub(super) fn noted<'a>(notes: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut suspects = Self::default();
        for (number, value) in notes {
            match number.parse() {
                // An epoch for each time.
                Ok(number) => drop(suspects.begun.insert(number, value.split_whitespace().count() as u32)),
                Err(_) => suspects.up_to = value.parse().unwrap_or(0),
            }
        }
        suspects
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Holds back suspects, with whatever is behind them, and returns the rest.
    pub(super) fn sift(&mut self, deliveries: Vec<Delivery>) -> Vec<Delivery> {
        let is_suspect = |delivery: &Delivery| delivery.id.sequence <= self.up_to;
        if !deliveries.iter().any(is_suspect) {
            return deliveries;
        }
        self.waiting.extend(deliveries);
        Vec::new()
    }

    /// The next to hand out; there are some. Cancel safe.
    pub(super) async fn next(&mut self, commits: &RedisCommits) -> Vec<Delivery> {
        let is_new = |delivery: &&Delivery| delivery.id.sequence > self.up_to;
        let new = self.waiting.iter().take_while(is_new).count();
        if new > 0 {
            return self.waiting.drain(..new).collect();
        }
        let Self { up_to, begun, waiting } = self;
        let is_first = |delivery: &&Delivery| {
            let number = delivery.id.sequence;
            number <= *up_to && !begun.contains_key(&number)
        };
        let first = waiting.iter().take(TOGETHER).take_while(is_first).count();
        let alone = match first {
            0 => commits.redis.suspects.clone().acquire_owned().await.ok(),
            _ => None,
        };
        let hold = &commits.hold;
        let mut arguments = vec![bytes_of(hold.partition), bytes_of(&hold.lease)];
        let mut deliveries: Vec<Delivery> = waiting.iter().take(first.max(1)).cloned().collect();
        for delivery in &mut deliveries {
            let number = delivery.id.sequence;
            delivery.attempts = begun.get(&number).copied().unwrap_or(0);
            arguments.push(bytes_of(number));
        }
        let shard = commits
            .redis
            .layout
            .shard(commits.redis.layout.shard_of(hold.partition));
        let keys = ["owner", "begun"].map(|name| shard.key(name));
        commits
            .redis
            .change::<()>(&shard, &scripts::BEGIN, &keys, &arguments)
            .await;
        waiting.drain(..deliveries.len());
        let mut progress = hold.progress();
        deliveries
            .iter()
            .for_each(|delivery| progress.begin(delivery.id.sequence));
        drop(progress);
        if let Some(alone) = alone {
            let number = deliveries[0].id.sequence;
            let over = is_over(Arc::downgrade(hold), hold.changed.clone(), number, alone);
            commits.redis.shutdown.spawn(over);
        }
        deliveries
    }
}

/// Takes back that events were begun under a lease that was lost, once none of them is in hand here any more.
pub(super) fn spare(redis: &Redis, partition: Partition, lease: &str, numbers: &[u64]) {
    if numbers.is_empty() {
        return;
    }
    let shard = redis.layout.shard(redis.layout.shard_of(partition));
    let mut arguments = vec![bytes_of(partition), bytes_of(lease)];
    arguments.extend(numbers.iter().map(bytes_of));
    let (asking, keys) = (redis.clone(), [shard.key("begun")]);
    redis.shutdown.spawn(async move {
        // A process that ends meanwhile is not held up.
        let sparing = asking.link.run::<()>(&scripts::SPARE, &keys, &arguments);
        let _ = timeout(PATIENCE, sparing).await;
    });
}

/// Lets the next be begun once an event is committed, or the lease is over.
async fn is_over(hold: Weak<Hold>, changed: Arc<Notify>, number: u64, _alone: OwnedSemaphorePermit) {
    loop {
        let told = changed.notified();
        tokio::pin!(told);
        told.as_mut().enable();
        let is_open = hold
            .upgrade()
            .is_some_and(|hold| !hold.over.lost.is_cancelled() && hold.progress().is_open(number));
        if !is_open {
            return;
        }
        told.await;
    }
}
