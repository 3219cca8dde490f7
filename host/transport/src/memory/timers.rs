//! Fires timers: a task sleeps until the next is due and hands its event on, under the one lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::warn;

use super::state::State;
use super::{Memory, MemorySettings};
use plugnode_message::{Event, Firing, Partition, Timer, TimerEvent, now_ms, partition_of_timer};

/// How many are fired before others have the lock.
const TOGETHER: usize = 2_000;
/// How long to wait where there is no room for the event of the next.
const NO_ROOM: Duration = Duration::from_millis(50);
/// How often it is looked whether the transport is still there.
const LOOK: Duration = Duration::from_secs(1);

/// Wakes the task when a timer was set.
#[derive(Default)]
pub(super) struct Wake {
    has_task: AtomicBool,
    set: Notify,
}

/// A timer was set: wakes the task, or starts it for the first. It ends with the transport.
pub(super) fn wake(memory: &Memory) {
    memory.timers.set.notify_one();
    if memory.timers.has_task.swap(true, Ordering::AcqRel) {
        return;
    }
    let (state, wake) = (Arc::downgrade(&memory.state), memory.timers.clone());
    let settings = memory.settings.clone();
    tokio::spawn(async move {
        while let Some(pause) = look(&state, &settings) {
            // Woken or not, it looks again.
            let _ = timeout(pause, wake.set.notified()).await;
        }
    });
}

/// Fires what is due, and says how long until more may be. None once the transport is gone.
fn look(state: &Weak<Mutex<State>>, settings: &MemorySettings) -> Option<Duration> {
    let state = state.upgrade()?;
    let mut state = state.lock().expect("nothing panics while it holds this lock");
    let now_ms = now_ms();
    let due = state.buckets.due_timers(now_ms, TOGETHER);
    if due.is_empty() {
        let next = state.buckets.next_timer();
        return Some(next.map_or(LOOK, |next| {
            Duration::from_millis(next.saturating_sub(now_ms)).min(LOOK)
        }));
    }
    // One whose event has no room stands in the way of no other.
    let mut fired = 0;
    for (due_ms, bucket, name, record) in due {
        let partition = partition_of_timer(&name).filter(|of| usize::from(of.0) < state.partitions.len());
        let (Some(partition), Some((_, timer))) = (partition, Timer::read(&record)) else {
            warn!("a timer is dropped that cannot be read");
            state.buckets.goes_on(bucket, name, None);
            continue;
        };
        let namespace = timer.namespace.clone();
        let Firing { event, next } = timer.fire(due_ms, now_ms);
        let is_settled = match event {
            TimerEvent::OfApp(event) => state.append_from_nobody(partition, event, settings),
            TimerEvent::OfClient(client, command) => {
                let node = state.live.get(&(namespace, client)).cloned();
                // Of one whose io-node is lost, the disconnect is in the log.
                let io = node.and_then(|node| state.io_nodes.get_mut(&node));
                io.is_none_or(|io| {
                    let has_room = io.has_room(settings.outbox);
                    if has_room {
                        io.push(command);
                    }
                    has_room
                })
            }
        };
        if is_settled {
            state.buckets.goes_on(bucket, name, next);
            fired += 1;
        }
    }
    Some(if fired > 0 { Duration::ZERO } else { NO_ROOM })
}

impl State {
    /// Puts an event from nobody at the end of a partition, if there is room.
    fn append_from_nobody(&mut self, partition: Partition, event: Event, settings: &MemorySettings) -> bool {
        let partition = self.partition(partition);
        if !partition.has_room(None, event.size(), &settings.backlog) {
            return false;
        }
        partition.append(event);
        partition.news.notify_one();
        true
    }
}
