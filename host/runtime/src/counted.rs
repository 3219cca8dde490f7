//! Counted: the way of an event to an instance, but for the call into it. See `plugnode_testing::counted`.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::job::Job;
use super::lower::Lowered;
use super::queue::{Next, Queue};
use super::settings::Dispatch;
use plugnode_message::{Event, EventId, Partition};
use plugnode_testing::counted::{CLIENTS, message};

const INSTANCES: usize = 4;

#[test]
fn jobs_through_the_queue() {
    let (done, tracker) = (mpsc::channel(1).0, TaskTracker::new());
    let jobs: Vec<Job> = (0..512)
        .map(|number| Job {
            id: EventId {
                partition: Partition(0),
                sequence: number as u64,
            },
            attempt: 1,
            event: Arc::new(message(number)),
            on_trial: None,
            done: done.clone(),
            token: tracker.token(),
        })
        .collect();
    let mut queue = Queue::new(Dispatch::RoundRobin, INSTANCES, true);
    assert_eq!(counted_jobs_through_the_queue(&mut queue, jobs), CLIENTS);
    assert_eq!(queue.backlog(), 0);
}

/// How many clients had to be introduced: each to the one instance that has its events when they come in turn.
#[inline(never)]
fn counted_jobs_through_the_queue(queue: &mut Queue, jobs: Vec<Job>) -> usize {
    let mut introduced = 0;
    for job in jobs {
        let submitted = queue.submit(job).expect("it is not retired");
        let instance = submitted.expect("one is idle");
        let Next::Handle(job, introduce) = queue.next(instance) else {
            panic!("it was woken for a job");
        };
        introduced += usize::from(introduce);
        queue.saw(instance, &job.event);
        assert!(matches!(queue.next(instance), Next::Wait), "there was one");
    }
    introduced
}

#[test]
fn events_as_handlers_see_them() {
    let events: Vec<Event> = (0..512).map(message).collect();
    assert_eq!(counted_events_as_handlers_see_them(&events), events.len());
}

#[inline(never)]
fn counted_events_as_handlers_see_them(events: &[Event]) -> usize {
    let mut seen = 0;
    for event in events {
        seen += usize::from(Lowered::new(event).event().is_some());
    }
    seen
}
