//! Which instance gets which event next. Plain data behind the pool's lock: it waits for nothing and wakes nobody.

use std::collections::{HashSet, VecDeque};

use xxhash_rust::xxh3::xxh3_64;

use super::job::Job;
use super::seen::{Key, Seen};
use super::settings::Dispatch;
use plugnode_message::{Event, EventKind};

/// The jobs of a pool that have not begun, and who is idle.
pub(super) struct Queue {
    dispatch: Dispatch,
    retired: bool,
    /// The instance whose turn it is.
    turn: usize,
    /// The instances that wait for a job, a bit each.
    idle: u64,
    /// Jobs that any instance may take.
    waiting: VecDeque<Job>,
    /// Jobs that are meant for one instance.
    own: Vec<VecDeque<Job>>,
    seen: Seen,
    /// The instances that have not begun, a bit each,
    waits: u64,
    /// and the clients that were forgotten meanwhile: what these instances inherit may be older than that.
    forgotten: HashSet<Key>,
}

/// What an instance is to do.
pub(super) enum Next {
    /// Handle this, after introducing its client if that is said.
    Handle(Job, bool),
    /// Wait until woken.
    Wait,
    /// End: the pool is retired.
    End,
}

impl Queue {
    /// With instances that have begun, or are yet to be told to.
    pub(super) fn new(dispatch: Dispatch, instances: usize, have_begun: bool) -> Self {
        let all = u64::MAX >> (64 - instances);
        // One that has begun will ask for a job as soon as its task runs, and what it is given until then waits for it.
        let (idle, waits) = if have_begun { (all, 0) } else { (0, all) };
        Self {
            dispatch,
            retired: false,
            turn: 0,
            idle,
            waiting: VecDeque::new(),
            own: (0..instances).map(|_| VecDeque::new()).collect(),
            seen: Seen::new(instances),
            waits,
            forgotten: HashSet::new(),
        }
    }

    /// This instance begins, and has seen these clients. Says whether it is the last to do so.
    pub(super) fn begin(&mut self, instance: usize, seen: Vec<Key>) -> bool {
        for client in seen {
            if !self.forgotten.contains(&client) {
                self.seen.mark(instance, client);
            }
        }
        self.waits &= !(1 << instance);
        if self.waits == 0 {
            self.forgotten = HashSet::new();
        }
        self.waits == 0
    }

    /// The clients that this instance has seen.
    pub(super) fn seen_by(&self, instance: usize) -> Vec<Key> {
        self.seen.by(instance)
    }

    /// Takes a job in, and says which idle instance has to be woken for it. A retired queue gives it back.
    pub(super) fn submit(&mut self, job: Job) -> Result<Option<usize>, Job> {
        if self.retired {
            return Err(job);
        }
        let Some(instance) = self.choose(&job.event) else {
            self.waiting.push_back(job);
            return Ok(None);
        };
        self.own[instance].push_back(job);
        let was_idle = self.idle & (1 << instance) != 0;
        self.idle &= !(1 << instance);
        Ok(was_idle.then_some(instance))
    }

    /// Takes a job in if the instance that is to have it can begin it at once, and says which has to be woken for it.
    pub(super) fn submit_if_idle(&mut self, job: Job) -> Result<Option<usize>, Job> {
        let can_begin = match self.own_instance(&job.event) {
            Some(own) => self.idle & (1 << own) != 0,
            None => self.idle != 0,
        };
        if can_begin { self.submit(job) } else { Err(job) }
    }

    /// What this instance does next. One that is told to wait counts as idle from here on.
    pub(super) fn next(&mut self, instance: usize) -> Next {
        let job = self.own[instance].pop_front().or_else(|| self.waiting.pop_front());
        match job {
            Some(job) => {
                let introduce = match (&job.event.kind, key(&job.event)) {
                    (EventKind::Connection(_), _) | (_, None) => false,
                    (_, Some(client)) => !self.seen.has(instance, &client),
                };
                Next::Handle(job, introduce)
            }
            None if self.retired => Next::End,
            None => {
                self.idle |= 1 << instance;
                Next::Wait
            }
        }
    }

    /// This instance has handled an event of its client.
    pub(super) fn saw(&mut self, instance: usize, event: &Event) {
        // A disconnect is a client's last event: to remember the client now would be to remember it for ever.
        if matches!(event.kind, EventKind::Disconnect(_)) {
            return;
        }
        if let Some(client) = key(event) {
            self.seen.mark(instance, client);
        }
    }

    pub(super) fn replaced(&mut self, instance: usize) {
        self.seen.replace(instance);
    }

    pub(super) fn forget(&mut self, client: &Key) {
        self.seen.forget(client);
        if self.waits != 0 {
            self.forgotten.insert(client.clone());
        }
    }

    /// How many jobs have not begun.
    pub(super) fn backlog(&self) -> usize {
        self.waiting.len() + self.own.iter().map(VecDeque::len).sum::<usize>()
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired
    }

    /// Takes no more, and gives back what has not begun, each client's jobs in their order.
    pub(super) fn retire(&mut self) -> Vec<Job> {
        self.retired = true;
        let own = self.own.iter_mut().flat_map(|own| own.drain(..));
        own.chain(self.waiting.drain(..)).collect()
    }

    /// The instance that a job is for. None when any will do and none is idle.
    fn choose(&mut self, event: &Event) -> Option<usize> {
        let own = self.own_instance(event);
        own.or_else(|| {
            let instances = self.own.len();
            let instance = (self.turn..instances)
                .chain(0..self.turn)
                .find(|i| self.idle & (1 << i) != 0)?;
            self.turn = (instance + 1) % instances;
            Some(instance)
        })
    }

    /// The one instance that has all events of this client, where that is so.
    fn own_instance(&self, event: &Event) -> Option<usize> {
        let client = event.in_order_with().filter(|_| self.dispatch == Dispatch::Sticky)?;
        Some((xxh3_64(client.as_str().as_bytes()) % self.own.len() as u64) as usize)
    }
}

fn key(event: &Event) -> Option<Key> {
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

    fn taken(queue: &mut Queue, instance: usize) -> (u64, bool) {
        match queue.next(instance) {
            Next::Handle(job, introduce) => (job.id.sequence, introduce),
            Next::Wait | Next::End => panic!("instance {instance} is given nothing"),
        }
    }

    fn submit(queue: &mut Queue, job: Job) -> Option<usize> {
        queue.submit(job).expect("it is not retired")
    }

    #[test]
    fn idle_instances_take_turns() {
        let mut queue = Queue::new(Dispatch::RoundRobin, 3, true);
        for sequence in 0..7 {
            let instance = submit(&mut queue, from("a", sequence)).expect("one is idle");
            assert_eq!(instance, sequence as usize % 3);
            assert_eq!(taken(&mut queue, instance).0, sequence);
            assert!(matches!(queue.next(instance), Next::Wait));
        }
    }

    #[test]
    fn a_busy_instance_is_passed_over_and_what_waits_goes_to_the_first_that_is_free() {
        let mut queue = Queue::new(Dispatch::RoundRobin, 2, true);
        assert_eq!(submit(&mut queue, from("a", 1)), Some(0));
        assert_eq!(submit(&mut queue, from("b", 2)), Some(1));
        assert_eq!(submit(&mut queue, from("c", 3)), None);
        assert_eq!(submit(&mut queue, from("d", 4)), None);
        assert_eq!(taken(&mut queue, 0).0, 1);
        assert_eq!(taken(&mut queue, 1).0, 2);
        assert_eq!(taken(&mut queue, 1).0, 3);
        assert!(matches!(taken(&mut queue, 1), (4, _)));
        assert!(matches!(queue.next(1), Next::Wait));
        assert_eq!(submit(&mut queue, from("e", 5)), Some(1), "instance 0 is still busy");
    }

    #[test]
    fn sticky_keeps_a_client_on_its_instance_even_while_that_is_busy() {
        let mut queue = Queue::new(Dispatch::Sticky, 4, true);
        let instance = submit(&mut queue, from("a", 1)).expect("all are idle");
        assert_eq!(submit(&mut queue, from("a", 2)), None);
        assert_eq!(taken(&mut queue, instance).0, 1);
        for other in (0..4).filter(|other| *other != instance) {
            assert!(matches!(queue.next(other), Next::Wait));
        }
        assert_eq!(taken(&mut queue, instance).0, 2);
    }

    #[test]
    fn a_client_is_introduced_once_to_each_instance_that_missed_its_connection() {
        let mut queue = Queue::new(Dispatch::RoundRobin, 2, true);
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
            queue.saw(instance, &event);
            if sequence == 3 {
                queue.replaced(0);
            }
            assert!(matches!(queue.next(instance), Next::Wait));
        }
        assert_eq!(
            introduced,
            [(0, false), (1, true), (0, false), (1, false), (0, true), (1, false)]
        );
    }

    #[test]
    fn nothing_is_remembered_of_a_client_after_its_disconnect() {
        let mut queue = Queue::new(Dispatch::RoundRobin, 1, true);
        let disconnect = event(Some("a"), EventKind::Disconnect(DisconnectReason::Client.into()));
        submit(&mut queue, job(1, disconnect.clone()));
        assert!(taken(&mut queue, 0).1);
        queue.saw(0, &disconnect);
        submit(&mut queue, from("a", 2));
        assert!(taken(&mut queue, 0).1);
    }

    #[test]
    fn an_event_without_a_client_introduces_nobody() {
        let mut queue = Queue::new(Dispatch::Sticky, 2, true);
        let custom = EventKind::Custom {
            kind: "x/1".into(),
            data: Default::default(),
            content_type: None,
        };
        let instance = submit(&mut queue, job(1, event(None, custom))).expect("one is idle");
        assert_eq!(taken(&mut queue, instance), (1, false));
    }

    #[test]
    fn a_retired_queue_gives_back_what_has_not_begun_and_takes_no_more() {
        for dispatch in [Dispatch::RoundRobin, Dispatch::Sticky] {
            let mut queue = Queue::new(dispatch, 1, true);
            for sequence in 1..=3 {
                submit(&mut queue, from("a", sequence));
            }
            assert_eq!(taken(&mut queue, 0).0, 1);
            let back: Vec<_> = queue.retire().iter().map(|job| job.id.sequence).collect();
            assert_eq!(back, [2, 3]);
            assert!(queue.submit(from("a", 4)).is_err());
            assert!(matches!(queue.next(0), Next::End));
        }
    }
}
