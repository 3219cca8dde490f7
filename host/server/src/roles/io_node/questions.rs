//! Questions to all io-nodes, and what they say to them.
//!
//! A question is in every io-node's outbox, behind the commands of the handler that asked. Each io-node answers when it
//! comes to it, and so when it has carried those out. The answers come together on the io-node that holds the client in whose
//! name it was asked, and become one reply event of that client, or of nobody when the client is gone; who has not answered in
//! time, or before this io-node ends, is named in it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::debug;

use super::directory::Directory;
use super::handle::Share;
use super::incarnation::Incarnation;
use super::member::Member;
use super::requests::Asked;
use super::summary;
use super::waiting::{Arrival, Source};
use plugnode_message::{
    Asker, Audience, Command, Event, EventKind, Namespace, NodeId, Part, Payload, Present, Question, SessionId, Text,
    now_ms,
};
use plugnode_process::counts;
use plugnode_process::shutdown::Shutdown;
use plugnode_transport::{Inbox, Transport};

/// The longest that a handler may wait for all answers.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How much longer answers may be on their way than clients may take.
const ON_THE_WAY: Duration = Duration::from_millis(500);
/// How many bytes one io-node says at most; of clients beyond that it says only that they are there.
const MOST_BYTES: usize = 1 << 20;
/// How many questions may be open on one io-node.
const OPEN: usize = 10_000;

/// What this io-node is asked, and what it has asked others for its clients.
pub(super) struct Questions {
    pub(super) node: NodeId,
    pub(super) directory: Arc<Directory>,
    pub(super) transport: Transport,
    pub(super) inbox: Arc<dyn Inbox>,
    pub(super) incarnation: Arc<Incarnation>,
    /// Bytes of events from nobody that wait to be accepted.
    pub(super) waiting: Arc<AtomicUsize>,
    pub(super) shutdown: Shutdown,
    pub(super) open: Open,
}

/// The questions that answers are gathered for.
type Open = Mutex<HashMap<Text, UnboundedSender<(NodeId, Part)>>>;

impl Questions {
    /// Answers a question and, when the client who asks is here, sees to it that all answers come together.
    pub(super) fn asked(self: &Arc<Self>, asker: Asker, question: Question, timeout_ms: u32, token: Bytes) {
        let patience = Duration::from_millis(timeout_ms.into()).min(LONGEST_WAIT);
        if asker.io_node == self.node {
            self.gather(&asker, patience, token);
        }
        let part = match question {
            Question::Settled => Part::Settled,
            Question::Acks { to, event, args } => {
                let questions = self.clone();
                let answers = self.ask(&to, &event, &args);
                self.until_the_end(async move {
                    let part = answers.within(patience).await;
                    questions.answer(asker, part);
                });
                return;
            }
            Question::Clients { who, most } => self.clients(&who, most),
            Question::Channels { namespace, most } => self.channels(&namespace, most),
        };
        self.answer(asker, part);
    }

    /// Takes in what an io-node says to a question of a client that is here.
    pub(super) fn answered(&self, asker: &Asker, from: NodeId, part: Part) {
        // The question may have been given up by now.
        if let Some(answers) = self.open().get(&asker.id) {
            let _ = answers.send((from, part));
        }
    }

    fn answer(self: &Arc<Self>, asker: Asker, part: Part) {
        let from = self.node.clone();
        if asker.io_node == self.node {
            self.answered(&asker, from, part);
            return;
        }
        let (questions, node) = (self.clone(), asker.io_node.clone());
        self.until_the_end(async move {
            let told = questions.inbox.tell(&node, Command::Answer { asker, from, part });
            if let Err(error) = told.await {
                debug!(%node, %error, "cannot tell an answer");
            }
        });
    }

    fn gather(self: &Arc<Self>, asker: &Asker, patience: Duration, token: Bytes) {
        let (answers, said) = mpsc::unbounded_channel();
        {
            let mut open = self.open();
            if open.len() >= OPEN {
                debug!(client = %asker.client, "a question is not heard: too many are open");
                return;
            }
            open.insert(asker.id.clone(), answers);
        }
        let (questions, asker) = (self.clone(), asker.clone());
        self.shutdown.spawn_intake(async move {
            let deadline = Instant::now() + patience + ON_THE_WAY;
            let answer = questions.hear(said, deadline).await;
            questions.open().remove(&asker.id);
            questions.reply(asker, token, answer);
        });
    }

    /// Takes an answer in as an event of the client that asked or, when that is gone, as one from nobody behind its last.
    fn reply(&self, asker: Asker, token: Bytes, answer: Payload) {
        let Asker { namespace, client, .. } = asker;
        let member = self.directory.find(&namespace, &client);
        let reply = EventKind::Reply {
            token: token.clone(),
            answer: Some(answer.clone()),
        };
        if member.is_some_and(|member| member.enqueue(reply)) {
            return;
        }
        let event = Event {
            namespace,
            client: None,
            received_at_ms: now_ms(),
            kind: EventKind::LateReply { client, token, answer },
        };
        let Some(share) = Share::take(&self.waiting, event.size()) else {
            counts::REPLIES_DROPPED.one();
            return debug!("the reply to a client that is gone is dropped: too much waits to be accepted");
        };
        self.incarnation.take_in(Arrival {
            event,
            source: Source::Program(share),
        });
    }

    /// Does something that nobody waits for once the process ends.
    fn until_the_end(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.shutdown.spawn_intake(async move {
            tokio::select! {
                () = task => {}
                () = shutdown.begun() => {}
            }
        });
    }

    /// Hears from all io-nodes that are there, or those that answer in time and before this one ends.
    async fn hear(&self, mut said: UnboundedReceiver<(NodeId, Part)>, deadline: Instant) -> Payload {
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
                next = said.recv() => match next {
                    Some((node, part)) => heard.insert(node, part),
                    None => break,
                },
                () = sleep_until(deadline) => break,
                () = self.shutdown.begun() => break,
            };
        }
        let silent = there.into_iter().filter(|node| !heard.contains_key(node)).collect();
        summary::of(heard, silent)
    }

    /// Emits an event to clients that are here and asks each for an acknowledgement.
    fn ask(&self, to: &Audience, event: &str, args: &Payload) -> Answers {
        let (answers, said) = mpsc::unbounded_channel();
        let mut asked = Vec::new();
        for member in self.directory.audience(to) {
            let number = member.request(event, args, Asked::Collect(answers.clone()));
            asked.push((member.id.clone(), Arc::downgrade(&member), number));
        }
        Answers { asked, said }
    }

    fn clients(&self, who: &Audience, most: u32) -> Part {
        let there = self.directory.audience(who);
        let mut bytes = 0;
        let describe = there.iter().take(most as usize).map(|member| Present {
            id: member.id.clone(),
            attributes: member.attributes(),
            channels: member.clients.subscriptions(&member.id),
        });
        let fits = |present: &Present| {
            let channels = present.channels.iter().map(|channel| channel.as_str().len());
            bytes += present.attributes.len() + channels.sum::<usize>();
            bytes <= MOST_BYTES
        };
        Part::Clients {
            clients: describe.take_while(fits).collect(),
            count: there.len() as u32,
        }
    }

    fn channels(&self, namespace: &Namespace, most: u32) -> Part {
        let clients = self.directory.clients(namespace);
        let (count, mut channels) = clients
            .map(|clients| clients.channels(most as usize))
            .unwrap_or_default();
        let mut bytes = 0;
        channels.retain(|(channel, _)| {
            bytes += channel.as_str().len();
            bytes <= MOST_BYTES
        });
        Part::Channels {
            count: count as u32,
            channels,
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Text, UnboundedSender<(NodeId, Part)>>> {
        self.open.lock().expect("nothing panics while it holds this lock")
    }
}

/// What clients say that were asked.
struct Answers {
    /// Who was asked, and by which number: it is forgotten with this, for nobody waits for it any more.
    asked: Vec<(SessionId, Weak<Member>, i64)>,
    said: UnboundedReceiver<(SessionId, Payload)>,
}

impl Answers {
    /// Waits until all have answered or are gone, but no longer than this.
    async fn within(mut self, patience: Duration) -> Part {
        let deadline = Instant::now() + patience;
        let mut answers = BTreeMap::new();
        let mut bytes = 0;
        while let Ok(Some((client, answer))) = timeout_at(deadline, self.said.recv()).await {
            bytes += answer.size();
            if bytes <= MOST_BYTES {
                answers.insert(client, answer);
            }
        }
        let asked = self.asked.iter().map(|(id, ..)| id);
        let missing = asked.filter(|id| !answers.contains_key(*id)).cloned().collect();
        Part::Acks {
            answers: answers.into_iter().collect(),
            missing,
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        for (_, member, number) in &self.asked {
            if let Some(member) = member.upgrade() {
                member.requests.take(*number);
            }
        }
    }
}
