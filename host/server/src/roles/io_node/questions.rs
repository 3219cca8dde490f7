//! Questions of handlers to all io-nodes, and the answers.
//!
//! A question is in the outbox of every io-node, behind the commands that its handler sent before. An io-node answers when it reaches the
//! question, so after it applied those commands. The io-node of the client in whose event the question was asked collects the answers. They
//! become one reply event of that client, or of no client if it has left. The reply names the io-nodes that did not answer in time, or
//! before the collecting io-node ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::debug;

use super::program_backlog::ProgramBacklog;
use crate::summary;
use plugnode_message::{
    Audience, ClientDescription, Command, Event, EventKind, Namespace, NodeId, PartialAnswer, Payload, QueryOrigin,
    Question, SessionId, Text, now_ms,
};
use plugnode_process::metrics;
use plugnode_process::shutdown::Shutdown;
use plugnode_socket_io::{Incarnation, NamespaceRegistry, PendingEvent, ReplyTo, Socket};
use plugnode_transport::{Inbox, Transport};

/// The longest time that a handler may wait for all answers.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);
/// Added to the timeout of clients, for the way of the answers between io-nodes.
const TRANSIT: Duration = Duration::from_millis(500);
/// Bytes in the answer of one io-node. Clients and rooms beyond that are only counted.
const MAX_BYTES: usize = 1 << 20;
/// Questions that may be open on one io-node.
const MAX_OPEN: usize = 10_000;

/// The questions of one incarnation: those that it answers, and those of its clients that it collects answers for.
pub(super) struct Questions {
    pub(super) node: NodeId,
    pub(super) namespaces: Arc<NamespaceRegistry<Socket>>,
    pub(super) transport: Transport,
    pub(super) inbox: Arc<dyn Inbox>,
    pub(super) incarnation: Arc<Incarnation>,
    /// The budget of replies to clients that have left.
    pub(super) backlog: ProgramBacklog,
    pub(super) shutdown: Shutdown,
    pub(super) open: Open,
}

/// The questions that answers are collected for.
type Open = Mutex<HashMap<Text, UnboundedSender<(NodeId, PartialAnswer)>>>;

impl Questions {
    /// Answers a question. If the client that asks is on this io-node, the answers are collected here.
    pub(super) fn asked(self: &Arc<Self>, origin: QueryOrigin, question: Question, timeout_ms: u32, token: Bytes) {
        let patience = Duration::from_millis(timeout_ms.into()).min(MAX_TIMEOUT);
        if origin.io_node == self.node {
            let most = match &question {
                Question::Clients { most, .. } | Question::Channels { most, .. } => *most,
                Question::Settled | Question::Acks { .. } => u32::MAX,
            };
            self.collect_answers(&origin, most, patience, token);
        }
        let part = match question {
            Question::Settled => PartialAnswer::Settled,
            Question::Acks { to, event, args } => {
                let questions = self.clone();
                let answers = self.ask(&to, &event, &args);
                self.spawn_until_shutdown(async move {
                    let part = answers.within(patience).await;
                    questions.answer(origin, part);
                });
                return;
            }
            Question::Clients { who, most } => self.clients(&who, most),
            Question::Channels { namespace, most } => self.channels(&namespace, most),
        };
        self.answer(origin, part);
    }

    /// Takes the answer of an io-node to a question of a client on this one.
    pub(super) fn answered(&self, origin: &QueryOrigin, from: NodeId, part: PartialAnswer) {
        // The question may have been given up by now.
        if let Some(answers) = self.open.lock().get(&origin.id) {
            let _ = answers.send((from, part));
        }
    }

    fn answer(self: &Arc<Self>, origin: QueryOrigin, part: PartialAnswer) {
        let from = self.node.clone();
        if origin.io_node == self.node {
            self.answered(&origin, from, part);
            return;
        }
        let (questions, node) = (self.clone(), origin.io_node.clone());
        self.spawn_until_shutdown(async move {
            let told = questions.inbox.tell(&node, Command::Answer { origin, from, part });
            if let Err(error) = told.await {
                debug!(%node, %error, "cannot send an answer to another io-node");
            }
        });
    }

    fn collect_answers(self: &Arc<Self>, origin: &QueryOrigin, most: u32, patience: Duration, token: Bytes) {
        let (answers, receiver) = mpsc::unbounded_channel();
        {
            let mut open = self.open.lock();
            if open.len() >= MAX_OPEN {
                debug!(client = %origin.client, "question dropped: too many questions are open");
                return;
            }
            open.insert(origin.id.clone(), answers);
        }
        let (questions, origin) = (self.clone(), origin.clone());
        self.shutdown.spawn_intake(async move {
            let deadline = Instant::now() + patience + TRANSIT;
            let answer = questions.collect(receiver, most, deadline).await;
            questions.open.lock().remove(&origin.id);
            questions.reply(origin, token, answer);
        });
    }

    /// Queues the reply as an event of the client that asked or, if it has left, as an event of no client behind its last.
    fn reply(&self, origin: QueryOrigin, token: Bytes, answer: Payload) {
        let QueryOrigin { namespace, client, .. } = origin;
        let socket = self.namespaces.find(&namespace, &client);
        let reply = EventKind::Reply {
            token: token.clone(),
            answer: Some(answer.clone()),
        };
        if socket.is_some_and(|socket| socket.enqueue(reply)) {
            return;
        }
        let event = Event {
            namespace,
            client: None,
            received_at_ms: now_ms(),
            kind: EventKind::LateReply { client, token, answer },
        };
        let Some(source) = self.backlog.reserve(event.size()) else {
            metrics::REPLIES_DROPPED.increment();
            return debug!("reply to a client that has left dropped: too many events wait to be accepted");
        };
        self.incarnation.queue(PendingEvent::new(event, source));
    }

    /// Spawns a task that is dropped when the process ends.
    fn spawn_until_shutdown(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.shutdown.spawn_intake(async move {
            tokio::select! {
                () = task => {}
                () = shutdown.begun() => {}
            }
        });
    }

    /// Collects answers until all io-nodes have answered, until the deadline, or until this io-node ends.
    async fn collect(
        &self,
        mut receiver: UnboundedReceiver<(NodeId, PartialAnswer)>,
        most: u32,
        deadline: Instant,
    ) -> Payload {
        let nodes = tokio::select! {
            nodes = timeout_at(deadline, self.transport.nodes.io_nodes()) => nodes.ok(),
            () = self.shutdown.begun() => None,
        };
        let there = match nodes {
            Some(Ok(nodes)) => nodes.into_iter().map(|node| node.id).collect(),
            _ => vec![self.node.clone()],
        };
        let mut heard = BTreeMap::new();
        while !there.iter().all(|node| heard.contains_key(node)) {
            tokio::select! {
                biased;
                next = receiver.recv() => match next {
                    Some((node, part)) => heard.insert(node, part),
                    None => break,
                },
                () = sleep_until(deadline) => break,
                () = self.shutdown.begun() => break,
            };
        }
        let silent = there.into_iter().filter(|node| !heard.contains_key(node)).collect();
        summary::of(heard, silent, most)
    }

    /// Sends an event to the clients of an audience, each of which has to acknowledge it.
    fn ask(&self, to: &Audience, event: &str, args: &Payload) -> Answers {
        let (answers, receiver) = mpsc::unbounded_channel();
        let mut asked = Vec::new();
        for socket in self.namespaces.audience(to) {
            let id = socket.request(event, args, ReplyTo::Collector(answers.clone()));
            asked.push((socket.id.clone(), Arc::downgrade(&socket), id));
        }
        Answers { asked, receiver }
    }

    fn clients(&self, who: &Audience, most: u32) -> PartialAnswer {
        let there = self.namespaces.audience(who);
        let mut bytes = 0;
        let describe = there.iter().take(most as usize).map(|socket| ClientDescription {
            id: socket.id.clone(),
            attributes: socket.attributes(),
            channels: socket.namespace.rooms_of(&socket.id),
        });
        let fits = |present: &ClientDescription| {
            let channels = present.channels.iter().map(|channel| channel.as_str().len());
            bytes += present.attributes.len() + channels.sum::<usize>();
            bytes <= MAX_BYTES
        };
        PartialAnswer::Clients {
            clients: describe.take_while(fits).collect(),
            count: there.len() as u32,
        }
    }

    fn channels(&self, namespace: &Namespace, most: u32) -> PartialAnswer {
        let sockets = self.namespaces.sockets(namespace);
        let (count, mut channels) = sockets.map(|sockets| sockets.rooms(most as usize)).unwrap_or_default();
        let mut bytes = 0;
        channels.retain(|(channel, _)| {
            bytes += channel.as_str().len();
            bytes <= MAX_BYTES
        });
        PartialAnswer::Channels {
            count: count as u32,
            channels,
        }
    }
}

/// The acknowledgements of the clients that were asked.
struct Answers {
    /// The clients, and the acknowledgement id of each. When this is dropped, the requests are closed.
    asked: Vec<(SessionId, Weak<Socket>, i64)>,
    receiver: UnboundedReceiver<(SessionId, Payload)>,
}

impl Answers {
    /// Waits until all clients have answered or left, at most for `patience`.
    async fn within(mut self, patience: Duration) -> PartialAnswer {
        let deadline = Instant::now() + patience;
        let mut answers = BTreeMap::new();
        let mut bytes = 0;
        while let Ok(Some((client, answer))) = timeout_at(deadline, self.receiver.recv()).await {
            bytes += answer.size();
            if bytes <= MAX_BYTES {
                answers.insert(client, answer);
            }
        }
        let asked = self.asked.iter().map(|(id, ..)| id);
        let missing = asked.filter(|id| !answers.contains_key(*id)).cloned().collect();
        PartialAnswer::Acks {
            answers: answers.into_iter().collect(),
            missing,
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        for (_, socket, id) in &self.asked {
            if let Some(socket) = socket.upgrade() {
                socket.requests.close(*id);
            }
        }
    }
}
