//! Detection of poison events: events that may have been in flight when an owner of their partition died, and may be the cause.
//!
//! Each such event is marked in Redis before it starts, once for each lease. So an event that kills its process again and
//! again is found by its marks, and the count of its attempts survives. A process that lost its lease and lives removes its
//! marks: none of its events was fatal.
//!
//! Suspects without a mark start together. A suspect with a mark has started at least twice: it starts while no other such event
//! is in flight in this process, so that a crash points to it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::timeout;

use crate::app_node::held_lease::HeldLease;
use crate::arguments::bytes_of;
use crate::redis::Redis;
use crate::scripts;
use plugnode_message::Partition;
use plugnode_transport::Delivery;

/// Maximum number of events marked in one call.
const EVENTS: usize = 32;
/// Deadline for removing marks.
const UNMARK_DEADLINE: Duration = Duration::from_secs(10);

/// Suspects of one partition under one lease.
#[derive(Default)]
pub(crate) struct PoisonSuspects {
    /// Events up to this number may have been in flight.
    up_to: u64,
    /// Number of marks of each event.
    marks: HashMap<u64, u32>,
    /// Events that are held back: suspects and those behind them.
    waiting: VecDeque<Delivery>,
}

impl PoisonSuspects {
    /// Reads the fields and values of the hash `begun` for one partition, without the partition's number.
    pub(crate) fn from_marks<'a>(marks: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut suspects = Self::default();
        for (number, value) in marks {
            match number.parse() {
                // One lease epoch for each mark.
                Ok(number) => drop(suspects.marks.insert(number, value.split_whitespace().count() as u32)),
                Err(_) => suspects.up_to = value.parse().unwrap_or(0),
            }
        }
        suspects
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Holds the events back if one of them is a suspect; else returns them.
    pub(crate) fn hold_back(&mut self, deliveries: Vec<Delivery>) -> Vec<Delivery> {
        let is_suspect = |delivery: &Delivery| delivery.id.sequence <= self.up_to;
        if !deliveries.iter().any(is_suspect) {
            return deliveries;
        }
        self.waiting.extend(deliveries);
        Vec::new()
    }

    /// Marks and returns the next held-back events; there is at least one. Cancel safe.
    pub(crate) async fn next(&mut self, redis: &Redis, held_lease: &Arc<HeldLease>) -> Vec<Delivery> {
        let is_new = |delivery: &&Delivery| delivery.id.sequence > self.up_to;
        let new = self.waiting.iter().take_while(is_new).count();
        if new > 0 {
            return self.waiting.drain(..new).collect();
        }
        let Self { up_to, marks, waiting } = self;
        let is_unmarked = |delivery: &&Delivery| {
            let number = delivery.id.sequence;
            number <= *up_to && !marks.contains_key(&number)
        };
        let unmarked = waiting.iter().take(EVENTS).take_while(is_unmarked).count();
        let alone = match unmarked {
            0 => redis.suspects.clone().acquire_owned().await.ok(),
            _ => None,
        };
        let mut arguments = vec![bytes_of(held_lease.partition), bytes_of(&held_lease.lease)];
        let mut deliveries: Vec<Delivery> = waiting.iter().take(unmarked.max(1)).cloned().collect();
        for delivery in &mut deliveries {
            let number = delivery.id.sequence;
            delivery.attempts = marks.get(&number).copied().unwrap_or(0);
            arguments.push(bytes_of(number));
        }
        let shard = redis.layout.shard(redis.layout.shard_of(held_lease.partition));
        let keys = ["owner", "begun"].map(|name| shard.key(name));
        redis
            .change::<()>(&shard, &scripts::MARK_STARTED, &keys, &arguments)
            .await;
        waiting.drain(..deliveries.len());
        let mut progress = held_lease.progress();
        deliveries
            .iter()
            .for_each(|delivery| progress.note_started(delivery.id.sequence));
        drop(progress);
        if let Some(alone) = alone {
            let number = deliveries[0].id.sequence;
            let end = until_ended(Arc::downgrade(held_lease), held_lease.changed.clone(), number, alone);
            redis.shutdown.spawn(end);
        }
        deliveries
    }
}

/// Removes, in the background, the marks made under a lost lease. None of these events is in flight in this process.
pub(crate) fn unmark_started(redis: &Redis, partition: Partition, lease: &str, numbers: &[u64]) {
    if numbers.is_empty() {
        return;
    }
    let shard = redis.layout.shard(redis.layout.shard_of(partition));
    let mut arguments = vec![bytes_of(partition), bytes_of(lease)];
    arguments.extend(numbers.iter().map(bytes_of));
    let (link, keys) = (redis.link.clone(), [shard.key("begun")]);
    redis.shutdown.spawn(async move {
        // The deadline keeps an outage from delaying the shutdown.
        let unmarking = link.run::<()>(&scripts::UNMARK_STARTED, &keys, &arguments);
        let _ = timeout(UNMARK_DEADLINE, unmarking).await;
    });
}

/// Holds the permit until an event is committed or its lease has ended.
async fn until_ended(held_lease: Weak<HeldLease>, changed: Arc<Notify>, number: u64, _alone: OwnedSemaphorePermit) {
    loop {
        let change = changed.notified();
        tokio::pin!(change);
        change.as_mut().enable();
        let is_in_flight = held_lease.upgrade().is_some_and(|held_lease| {
            !held_lease.end.lost.is_cancelled() && held_lease.progress().is_in_flight(number)
        });
        if !is_in_flight {
            return;
        }
        change.await;
    }
}
