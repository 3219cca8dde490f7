//! Fires timers: a task sleeps until the next timer is due and hands on its event.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::warn;

use super::Memory;
use super::state::State;
use crate::TransportSettings;
use plugnode_message::{Event, Firing, Partition, Timer, TimerEvent, now_ms, partition_of_timer};

/// Maximum number of timers fired while the lock is held.
const TOGETHER: usize = 2_000;
/// Pause while there is no room for the events of due timers.
const NO_ROOM: Duration = Duration::from_millis(50);
/// Maximum sleep: the task then checks whether the transport still exists.
const LOOK: Duration = Duration::from_secs(1);

/// Wakes the task when a timer was set.
#[derive(Default)]
pub(super) struct Wake {
    has_task: AtomicBool,
    set: Notify,
}

/// Wakes the task after a timer was set; the first call starts it. It ends with the transport.
pub(super) fn wake(memory: &Memory) {
    memory.timers.set.notify_one();
    if memory.timers.has_task.swap(true, Ordering::AcqRel) {
        return;
    }
    let (state, wake) = (Arc::downgrade(&memory.state), memory.timers.clone());
    let settings = memory.settings.clone();
    tokio::spawn(async move {
        while let Some(pause) = look(&state, &settings) {
            // Both a wake-up and a time-out lead to the next check.
            let _ = timeout(pause, wake.set.notified()).await;
        }
    });
}

/// Fires due timers. Returns the time until the next check; None once the transport is dropped.
fn look(state: &Weak<Mutex<State>>, settings: &TransportSettings) -> Option<Duration> {
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
    // A timer without room for its event does not delay the others.
    let mut fired = 0;
    for (due_ms, bucket, name, record) in due {
        let partition = partition_of_timer(&name).filter(|of| usize::from(of.0) < state.partitions.len());
        let (Some(partition), Some((_, timer))) = (partition, Timer::read(&record)) else {
            warn!("dropped a timer that cannot be read");
            state.buckets.replace_fired(bucket, name, None);
            continue;
        };
        let namespace = timer.namespace.clone();
        let Firing { event, next } = timer.fire(due_ms, now_ms);
        let is_settled = match event {
            TimerEvent::OfApp(event) => state.append_without_client(partition, event, settings),
            TimerEvent::OfClient(client, command) => {
                let node = state.live.get(&(namespace, client)).cloned();
                // Without an io-node the client's disconnect is in the log already: drop the timer.
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
            state.buckets.replace_fired(bucket, name, next);
            fired += 1;
        }
    }
    Some(if fired > 0 { Duration::ZERO } else { NO_ROOM })
}

impl State {
    /// Appends an event without a client to a partition, if there is room.
    fn append_without_client(&mut self, partition: Partition, event: Event, settings: &TransportSettings) -> bool {
        let partition = self.partition(partition);
        if !partition.has_room(&event, None, &settings.backlog) {
            return false;
        }
        partition.append(event);
        partition.news.notify_one();
        true
    }
}
