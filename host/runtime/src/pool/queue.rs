//! The job queue of a pool: decides which instance handles which event next. Plain data behind the pool's lock; it does not
//! wait and wakes no task.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::seen_clients::{ClientKey, SeenClients};
use crate::job::Job;
use crate::settings::Dispatch;
use plugnode_message::{Event, EventKind};

/// The jobs of a pool that have not started, and the state of its instances. Sets of instances are bit masks.
pub(crate) struct JobQueue {
    dispatch: Dispatch,
    retired: bool,
    /// The next instance in round-robin order.
    turn: usize,
    /// Instances that wait for a job.
    idle: u64,
    /// Jobs that any instance may take.
    unassigned: VecDeque<Job>,
    /// Jobs assigned to one instance each.
    assigned: Vec<VecDeque<Job>>,
    /// Number of extra instances, and its maximum.
    extras: usize,
    max_extras: usize,
    /// Number of extra instances that were ever made.
    extras_made: u32,
    seen: SeenClients,
    /// Instances that wait for their hand-off.
    not_started: u64,
    /// Clients that were forgotten while instances wait for their hand-off, which may still contain them.
    forgotten: HashSet<ClientKey>,
}

/// The next step of an instance.
pub(crate) enum NextStep {
    /// Handle this job. If true, give the instance a `no-client` event first, since it has not seen the job's client.
    Handle(Job, bool),
    /// Wait for a wake-up.
    Wait,
    /// End: the pool is retired.
    End,
}

impl JobQueue {
    /// A queue for this many instances, which have started or wait for a hand-off. There can be extra instances besides, unless dispatch
    /// is sticky.
    pub(crate) fn new(dispatch: Dispatch, instances: usize, max_extras: usize, have_started: bool) -> Self {
        let all = u64::MAX >> (64 - instances);
        // A started instance asks for a job as soon as its task runs, so it counts as idle from the beginning.
        let (idle, not_started) = if have_started { (all, 0) } else { (0, all) };
        Self {
            dispatch,
            retired: false,
            turn: 0,
            idle,
            unassigned: VecDeque::new(),
            assigned: (0..instances).map(|_| VecDeque::new()).collect(),
            extras: 0,
            max_extras: if dispatch == Dispatch::RoundRobin {
                max_extras
            } else {
                0
            },
            extras_made: 0,
            seen: SeenClients::new(instances),
            not_started,
            forgotten: HashSet::new(),
        }
    }

    /// Records that this instance has started, and that its predecessor had seen these clients. Returns whether all instances
    /// have started.
    pub(crate) fn start(&mut self, instance: usize, seen: Vec<ClientKey>) -> bool {
        for client in seen {
            if !self.forgotten.contains(&client) {
                self.seen.mark(instance, client);
            }
        }
        self.not_started &= !(1 << instance);
        if self.not_started == 0 {
            self.forgotten = HashSet::new();
        }
        self.not_started == 0
    }

    /// The clients that this instance has seen.
    pub(crate) fn seen_by(&self, instance: usize) -> Vec<ClientKey> {
        self.seen.seen_by(instance)
    }

    /// Adds a job, and returns the idle instance to wake for it, if any. A retired queue returns the job.
    pub(crate) fn submit(&mut self, job: Job) -> Result<Option<usize>, Job> {
        if self.retired {
            return Err(job);
        }
        let Some(instance) = self.choose(&job.event) else {
            self.unassigned.push_back(job);
            return Ok(None);
        };
        self.assigned[instance].push_back(job);
        let was_idle = self.idle & (1 << instance) != 0;
        self.idle &= !(1 << instance);
        Ok(was_idle.then_some(instance))
    }

    /// Adds a job if an instance can start it at once, and returns the instance to wake. Otherwise returns the job.
    pub(crate) fn submit_if_idle(&mut self, job: Job) -> Result<Option<usize>, Job> {
        let can_start = match self.sticky_instance(&job.event) {
            Some(instance) => self.idle & (1 << instance) != 0,
            None => self.idle != 0,
        };
        if can_start { self.submit(job) } else { Err(job) }
    }

    /// The next step of this instance. With [`NextStep::Wait`] it becomes idle.
    pub(crate) fn next(&mut self, instance: usize) -> NextStep {
        let job = self.assigned[instance]
            .pop_front()
            .or_else(|| self.unassigned.pop_front());
        match job {
            Some(job) => {
                let introduce = needs_introduction(&job.event, |client| self.seen.has(instance, client));
                NextStep::Handle(job, introduce)
            }
            None if self.retired => NextStep::End,
            None => {
                self.idle |= 1 << instance;
                NextStep::Wait
            }
        }
    }

    pub(crate) fn can_grow(&self) -> bool {
        self.max_extras > 0
    }

    /// Adds extra instances if jobs wait and so do all instances, and returns their numbers: at most as many as there are instances.
    pub(crate) fn add_extras(&mut self, waiting: usize) -> Range<u32> {
        let instances = self.assigned.len() + self.extras;
        let room = self.max_extras - self.extras;
        let added = match waiting < instances {
            true => 0,
            false => self.unassigned.len().min(instances).min(room),
        };
        self.extras += added;
        let first = self.assigned.len() as u32 + self.extras_made;
        self.extras_made += added as u32;
        first..first + added as u32
    }

    /// Whether jobs wait for any instance.
    pub(crate) fn has_unassigned(&self) -> bool {
        !self.unassigned.is_empty()
    }

    pub(crate) fn extra_ended(&mut self) {
        self.extras -= 1;
    }

    /// The next step of an extra instance, which has seen these clients.
    pub(crate) fn next_unassigned(&mut self, has_seen: impl FnOnce(&ClientKey) -> bool) -> NextStep {
        match self.unassigned.pop_front() {
            Some(job) => {
                let introduce = needs_introduction(&job.event, has_seen);
                NextStep::Handle(job, introduce)
            }
            None if self.retired => NextStep::End,
            None => NextStep::Wait,
        }
    }

    /// Records that this instance has handled an event of its client.
    pub(crate) fn record_seen(&mut self, instance: usize, event: &Event) {
        // A disconnect is the client's last event: an entry made now would never be removed.
        if matches!(event.kind, EventKind::Disconnect(_)) {
            return;
        }
        if let Some(client) = client_key(event) {
            self.seen.mark(instance, client);
        }
    }

    /// Records that this instance was replaced by a new one, which has seen no client.
    pub(crate) fn instance_replaced(&mut self, instance: usize) {
        self.seen.instance_replaced(instance);
    }

    pub(crate) fn forget(&mut self, client: &ClientKey) {
        self.seen.forget(client);
        if self.not_started != 0 {
            self.forgotten.insert(client.clone());
        }
    }

    /// Number of jobs that have not started.
    pub(crate) fn backlog(&self) -> usize {
        self.unassigned.len() + self.assigned.iter().map(VecDeque::len).sum::<usize>()
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired
    }

    /// Stops taking jobs, and returns those that have not started, in each client's order.
    pub(crate) fn retire(&mut self) -> Vec<Job> {
        self.retired = true;
        let assigned = self.assigned.iter_mut().flat_map(|jobs| jobs.drain(..));
        assigned.chain(self.unassigned.drain(..)).collect()
    }

    /// The instance to assign an event to. None if any instance may take it and none is idle.
    fn choose(&mut self, event: &Event) -> Option<usize> {
        let sticky = self.sticky_instance(event);
        sticky.or_else(|| {
            let instances = self.assigned.len();
            let instance = (self.turn..instances)
                .chain(0..self.turn)
                .find(|i| self.idle & (1 << i) != 0)?;
            self.turn = (instance + 1) % instances;
            Some(instance)
        })
    }

    /// With sticky dispatch, the instance that handles all events of this client.
    fn sticky_instance(&self, event: &Event) -> Option<usize> {
        let client = event.in_order_with().filter(|_| self.dispatch == Dispatch::Sticky)?;
        Some((xxh3_64(client.as_str().as_bytes()) % self.assigned.len() as u64) as usize)
    }
}

/// Whether an instance is given `no-client` before this event.
fn needs_introduction(event: &Event, has_seen: impl FnOnce(&ClientKey) -> bool) -> bool {
    match (&event.kind, client_key(event)) {
        (EventKind::Connection(_), _) | (_, None) => false,
        (_, Some(client)) => !has_seen(&client),
    }
}

fn client_key(event: &Event) -> Option<ClientKey> {
    event
        .client
        .as_ref()
        .map(|client| (event.namespace.clone(), client.id.clone()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;
    use tokio_util::task::TaskTracker;

    use super::*;
    use plugnode_message::{Client, DisconnectReason, EventId, Partition, Payload};

    fn event(client: Option<&str>, kind: EventKind) -> Arc<Event> {
        let client = client.map(|id| Client {
            id: id.into(),
            io_node: "io".into(),
            attributes: "{}".into(),
            patched: 0,
        });
        Arc::new(Event {
            namespace: "/".into(),
            client,
            received_at_ms: 0,
            kind,
        })
    }

    fn message() -> EventKind {
        EventKind::Message {
            event: "hi".into(),
            args: Payload {
                json: "[]".into(),
                attachments: Vec::new(),
            },
            ack: None,
        }
    }

    fn job(sequence: u64, event: Arc<Event>) -> Job {
        Job {
            id: EventId {
                partition: Partition(0),
                sequence,
            },
            attempt: 1,
            event,
            on_trial: None,
            done: mpsc::channel(1).0,
            token: TaskTracker::new().token(),
        }
    }

    fn from(client: &str, sequence: u64) -> Job {
        job(sequence, event(Some(client), message()))
    }

    fn taken(queue: &mut JobQueue, instance: usize) -> (u64, bool) {
        match queue.next(instance) {
            NextStep::Handle(job, introduce) => (job.id.sequence, introduce),
            NextStep::Wait | NextStep::End => panic!("instance {instance} gets no job"),
        }
    }

    fn submit(queue: &mut JobQueue, job: Job) -> Option<usize> {
        queue.submit(job).expect("the queue is not retired")
    }

    #[test]
    fn round_robin_over_idle_instances() {
        let mut queue = JobQueue::new(Dispatch::RoundRobin, 3, 0, true);
        for sequence in 0..7 {
            let instance = submit(&mut queue, from("a", sequence)).expect("one is idle");
            assert_eq!(instance, sequence as usize % 3);
            assert_eq!(taken(&mut queue, instance).0, sequence);
            assert!(matches!(queue.next(instance), NextStep::Wait));
        }
    }

    #[test]
    fn busy_instance_is_skipped_and_free_one_takes_waiting_job() {
        let mut queue = JobQueue::new(Dispatch::RoundRobin, 2, 0, true);
        assert_eq!(submit(&mut queue, from("a", 1)), Some(0));
        assert_eq!(submit(&mut queue, from("b", 2)), Some(1));
        assert_eq!(submit(&mut queue, from("c", 3)), None);
        assert_eq!(submit(&mut queue, from("d", 4)), None);
        assert_eq!(taken(&mut queue, 0).0, 1);
        assert_eq!(taken(&mut queue, 1).0, 2);
        assert_eq!(taken(&mut queue, 1).0, 3);
        assert!(matches!(taken(&mut queue, 1), (4, _)));
        assert!(matches!(queue.next(1), NextStep::Wait));
        assert_eq!(submit(&mut queue, from("e", 5)), Some(1), "instance 0 is still busy");
    }

    #[test]
    fn pool_doubles_while_all_instances_wait() {
        let mut queue = JobQueue::new(Dispatch::RoundRobin, 2, 5, true);
        (1..=9).for_each(|sequence| assert!(submit(&mut queue, from("a", sequence)).is_none_or(|first| first < 2)));
        assert!(queue.add_extras(1).is_empty(), "one instance works");
        assert_eq!(queue.add_extras(2), 2..4);
        assert!(queue.add_extras(2).is_empty(), "the new ones have not begun");
        assert_eq!(queue.add_extras(4), 4..7, "no more than the maximum");
        assert!(queue.add_extras(7).is_empty());
        queue.extra_ended();
        assert_eq!(queue.add_extras(6), 7..8);
        let next = queue.next_unassigned(|_| false);
        assert!(matches!(next, NextStep::Handle(job, true) if job.id.sequence == 3));
    }

    #[test]
    fn pool_does_not_grow_without_jobs_or_with_sticky_dispatch() {
        let mut queue = JobQueue::new(Dispatch::RoundRobin, 1, 5, true);
        assert!(queue.add_extras(1).is_empty());
        let mut queue = JobQueue::new(Dispatch::Sticky, 1, 5, true);
        (1..=3).for_each(|sequence| assert!(submit(&mut queue, from("a", sequence)).is_none_or(|first| first < 2)));
        assert!(!queue.can_grow());
        assert!(queue.add_extras(1).is_empty());
    }

    #[test]
    fn sticky_client_waits_for_its_busy_instance() {
        let mut queue = JobQueue::new(Dispatch::Sticky, 4, 0, true);
        let instance = submit(&mut queue, from("a", 1)).expect("all are idle");
        assert_eq!(submit(&mut queue, from("a", 2)), None);
        assert_eq!(taken(&mut queue, instance).0, 1);
        for other in (0..4).filter(|other| *other != instance) {
            assert!(matches!(queue.next(other), NextStep::Wait));
        }
        assert_eq!(taken(&mut queue, instance).0, 2);
    }

    #[test]
    fn client_is_introduced_once_to_each_new_instance() {
        let mut queue = JobQueue::new(Dispatch::RoundRobin, 2, 0, true);
        let connection = EventKind::Connection(Box::new(plugnode_message::Handshake {
            auth: None,
            query: "".into(),
            headers: [].into(),
            remote_addr: None,
            transport: "websocket".into(),
            recovered: false,
        }));
        let connection = event(Some("a"), connection);
        let mut introduced = Vec::new();
        for sequence in 0..6 {
            let event = if sequence == 0 {
                connection.clone()
            } else {
                event(Some("a"), message())
            };
            let instance = submit(&mut queue, job(sequence, event.clone())).expect("one is idle");
            introduced.push((instance, taken(&mut queue, instance).1));
            queue.record_seen(instance, &event);
            if sequence == 3 {
                queue.instance_replaced(0);
            }
            assert!(matches!(queue.next(instance), NextStep::Wait));
        }
        assert_eq!(
            introduced,
            [(0, false), (1, true), (0, false), (1, false), (0, true), (1, false)]
        );
    }

    #[test]
    fn client_is_forgotten_after_its_disconnect() {
        let mut queue = JobQueue::new(Dispatch::RoundRobin, 1, 0, true);
        let disconnect = event(Some("a"), EventKind::Disconnect(DisconnectReason::Client.into()));
        submit(&mut queue, job(1, disconnect.clone()));
        assert!(taken(&mut queue, 0).1);
        queue.record_seen(0, &disconnect);
        submit(&mut queue, from("a", 2));
        assert!(taken(&mut queue, 0).1);
    }

    #[test]
    fn event_without_client_introduces_no_client() {
        let mut queue = JobQueue::new(Dispatch::Sticky, 2, 0, true);
        let custom = EventKind::Custom {
            kind: "x/1".into(),
            data: Default::default(),
            content_type: None,
        };
        let instance = submit(&mut queue, job(1, event(None, custom))).expect("one is idle");
        assert_eq!(taken(&mut queue, instance), (1, false));
    }

    #[test]
    fn retired_queue_returns_unstarted_jobs_and_takes_no_more() {
        for dispatch in [Dispatch::RoundRobin, Dispatch::Sticky] {
            let mut queue = JobQueue::new(dispatch, 1, 0, true);
            for sequence in 1..=3 {
                submit(&mut queue, from("a", sequence));
            }
            assert_eq!(taken(&mut queue, 0).0, 1);
            let back: Vec<_> = queue.retire().iter().map(|job| job.id.sequence).collect();
            assert_eq!(back, [2, 3]);
            assert!(queue.submit(from("a", 4)).is_err());
            assert!(matches!(queue.next(0), NextStep::End));
        }
    }
}
