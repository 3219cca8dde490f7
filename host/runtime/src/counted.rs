//! Instruction counts of an event's way to an instance, without the call into it. See `plugnode_testing::counted`.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::job::Job;
use super::lower::Lowered;
use super::pool::queue::{JobQueue, NextStep};
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
    let mut queue = JobQueue::new(Dispatch::RoundRobin, INSTANCES, 0, true);
    assert_eq!(counted_jobs_through_the_queue(&mut queue, jobs), CLIENTS);
    assert_eq!(queue.backlog(), 0);
}

/// Number of clients that were introduced. Events come in turn, so each client meets one instance.
#[inline(never)]
fn counted_jobs_through_the_queue(queue: &mut JobQueue, jobs: Vec<Job>) -> usize {
    let mut introduced = 0;
    for job in jobs {
        let submitted = queue.submit(job).expect("the queue is not retired");
        let instance = submitted.expect("one is idle");
        let NextStep::Handle(job, introduce) = queue.next(instance) else {
            panic!("the instance was woken for a job");
        };
        introduced += usize::from(introduce);
        queue.record_seen(instance, &job.event);
        assert!(matches!(queue.next(instance), NextStep::Wait), "there was one job");
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
