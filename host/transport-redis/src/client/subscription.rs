//! Receives what other programs publish to channels of Redis, on a connection of its own.
//!
//! At most once: Redis keeps no message for a subscriber that is away. What arrives waits in a queue that is bounded in count and bytes; a
//! message beyond it is dropped. It knows no protocol of the messages.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{ConnectionAddr, PushInfo, PushKind, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tracing::{info, warn};

use crate::client::connection::Connection;
use crate::client::fault::{FaultKind, RedisFault};
use crate::client::next_attempt::backoff_up_to;
use crate::client::server::Server;
use crate::client::url::Topology;
use crate::settings::TlsFiles;
use plugnode_message::Namespace;
use plugnode_process::{jittered, log_limiter, metrics};
use plugnode_transport::Result;

/// Response timeout.
const ANSWER: Duration = Duration::from_secs(2);
/// How often the connection is checked: a server that is gone without a word sends no messages either.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The limits of the queue of a subscription.
#[derive(Debug, Clone, Copy)]
pub struct SubscriptionBudget {
    /// Messages that may wait.
    pub messages: usize,
    /// Bytes of the messages that may wait.
    pub bytes: usize,
    /// Bytes of one message and the name of its channel.
    pub message: usize,
}

/// A message of a channel. It counts in the queue until it is dropped.
#[derive(Debug)]
pub struct Published {
    /// The name of the channel.
    pub channel: Bytes,
    /// The message.
    pub message: Bytes,
    _room: OwnedSemaphorePermit,
}

/// A subscription to channels by patterns, which connects again by itself.
#[derive(Debug)]
pub struct Subscription {
    server: Server,
    patterns: Vec<String>,
    queue: Queue,
    received: mpsc::Receiver<Published>,
}

/// The writing end of the queue.
#[derive(Debug, Clone)]
struct Queue {
    sender: mpsc::Sender<Published>,
    room: Arc<Semaphore>,
    most: usize,
}

/// Where a connection of the subscription leads.
#[derive(Debug)]
struct Subscribed {
    connection: MultiplexedConnection,
    /// The master that Sentinels named, as text.
    master: Option<String>,
    /// True once the connection is closed.
    closed: watch::Receiver<bool>,
}

impl Subscription {
    /// A subscription to the channels that match one of `patterns`. It connects once it is read.
    ///
    /// # Errors
    /// If the URL or a TLS file cannot be used.
    pub fn new(url: &str, tls: &TlsFiles, patterns: Vec<String>, budget: SubscriptionBudget) -> Result<Self> {
        let (sender, received) = mpsc::channel(budget.messages);
        Ok(Self {
            server: Server::new(url, tls)?,
            patterns,
            queue: Queue {
                sender,
                room: Arc::new(Semaphore::new(budget.bytes.min(Semaphore::MAX_PERMITS))),
                most: budget.message.min(u32::MAX as usize),
            },
            received,
        })
    }

    /// Gives each message to `apply`. Connects, and connects again after each fault. Never completes. Cancel safe.
    pub async fn run(mut self, mut apply: impl FnMut(Published)) {
        let applying = async {
            while let Some(published) = self.received.recv().await {
                apply(published);
                // Lets the tasks of sessions write between messages.
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(applying, keep_subscribed(&self.server, &self.patterns, &self.queue));
    }
}

async fn keep_subscribed(server: &Server, patterns: &[String], queue: &Queue) {
    let mut backoff = backoff_up_to(LONGEST_PAUSE);
    // Whether the log says that there is no subscription.
    let mut is_reported = false;
    loop {
        let fault = match subscribe(server, patterns, queue).await {
            Ok(subscribed) => {
                backoff.reset();
                is_reported = false;
                info!(?patterns, redis = %server, "subscribed to the channels of emitters");
                let fault = until_lost(server, subscribed).await;
                metrics::EMITTER_SUBSCRIPTIONS_LOST.increment();
                fault
            }
            Err(fault) => fault,
        };
        if !is_reported {
            is_reported = true;
            let hint = match fault.kind {
                FaultKind::Rights => {
                    "; grant the user of [transport] url `+psubscribe` and `&CHANNEL` for each of the patterns"
                }
                _ => "",
            };
            warn!(
                ?patterns,
                "no subscription to the channels of emitters: what they publish is lost until there is one: {}{hint}",
                fault.describe(&server.to_string())
            );
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// Connects and subscribes.
async fn subscribe(server: &Server, patterns: &[String], queue: &Queue) -> std::result::Result<Subscribed, RedisFault> {
    let dialer = server.dialer();
    let mut master = None;
    let addresses = match &server.location().topology {
        Topology::Node(host) => vec![dialer.address(host)],
        Topology::Socket(path) => vec![ConnectionAddr::Unix(path.clone())],
        Topology::Sentinel { .. } => {
            let found = server.find_master().await?;
            master = Some(found.to_string());
            vec![dialer.address(&found)]
        }
        // A message reaches the subscribers of every server of a Cluster.
        Topology::Cluster(hosts) => hosts.iter().map(|host| dialer.address(host)).collect(),
    };
    let mut failed = RedisFault::new(FaultKind::Unreachable, "no host is named");
    for address in addresses {
        let (closing, closed) = watch::channel(false);
        let queue = queue.clone();
        let push = move |info: PushInfo| {
            match info.kind {
                PushKind::PMessage => queue.accept(info.data),
                PushKind::Disconnection => _ = closing.send(true),
                _ => {}
            }
            Ok::<(), ()>(())
        };
        let mut connection = match dialer.connect_subscriber(&address, ANSWER, push).await {
            Ok(connection) => connection,
            Err(fault) => {
                failed = fault;
                continue;
            }
        };
        if let Err(error) = connection.psubscribe(patterns).await {
            failed = RedisFault::of(&error);
            continue;
        }
        return Ok(Subscribed {
            connection,
            master,
            closed,
        });
    }
    Err(failed)
}

/// Waits until messages may be missed, and returns why.
async fn until_lost(server: &Server, subscribed: Subscribed) -> RedisFault {
    let Subscribed {
        connection,
        master,
        mut closed,
    } = subscribed;
    let mut connection = Connection::Node(connection);
    loop {
        tokio::select! {
            _ = closed.changed() => {
                return RedisFault::new(FaultKind::Unreachable, "the connection was closed");
            }
            () = tokio::time::sleep(jittered(CHECK_INTERVAL)) => {}
        }
        if let Err(error) = connection.ask(&redis::cmd("PING")).await {
            return RedisFault::of(&error);
        }
        if let Some(master) = &master
            && let Ok(found) = server.find_master().await
            && found.to_string() != *master
        {
            return RedisFault::new(
                FaultKind::Sentinel,
                format!("the master is {found} instead of {master}"),
            );
        }
    }
}

impl Queue {
    /// Queues a message: its pattern, its channel and its content. Counts one that does not fit.
    fn accept(&self, data: Vec<Value>) {
        let mut parts = data.into_iter().skip(1);
        let (Some(Value::BulkString(channel)), Some(Value::BulkString(message))) = (parts.next(), parts.next()) else {
            return;
        };
        let size = channel.len() + message.len();
        let room = match size <= self.most {
            true => self.room.clone().try_acquire_many_owned(size as u32).ok(),
            false => None,
        };
        let queued = room.is_some_and(|room| {
            let published = Published {
                channel: channel.into(),
                message: message.into(),
                _room: room,
            };
            self.sender.try_send(published).is_ok()
        });
        if !queued {
            metrics::EMITTER_MESSAGES_OVERFLOWED.increment();
            if log_limiter::allows(&Namespace::from("(emitters)"), "overflow of emitters") {
                warn!(
                    bytes = size,
                    most = self.most,
                    "message of an emitter dropped: it has more bytes than `most`, or too many wait; emit smaller messages, or fewer at a time"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::TestServer;

    const BUDGET: SubscriptionBudget = SubscriptionBudget {
        messages: 3,
        bytes: 100,
        message: 50,
    };

    /// Publishes until a subscriber gets it.
    async fn publish(server: &TestServer, channel: &str, message: &str) {
        while server.ask(&["PUBLISH", channel, message]).await.ok() != Some(Value::Int(1)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn subscribes_again_after_lost_connection() {
        let mut server = TestServer::start().await;
        let subscription = Subscription::new(&server.url(), &TlsFiles::default(), vec!["a*".into()], BUDGET).unwrap();
        let (sender, mut received) = mpsc::unbounded_channel();
        let running = tokio::spawn(subscription.run(move |published| {
            let _ = sender.send((published.channel.clone(), published.message.clone()));
        }));
        for message in ["one", "two"] {
            publish(&server, "abc", message).await;
            let got = tokio::time::timeout(Duration::from_secs(20), received.recv()).await;
            assert_eq!(got.unwrap(), Some((Bytes::from("abc"), Bytes::from(message))));
            server.restart().await;
        }
        running.abort();
    }

    #[test]
    fn queue_is_bounded_in_count_and_bytes() {
        let mut subscription = Subscription::new("redis://h", &TlsFiles::default(), Vec::new(), BUDGET).unwrap();
        let push = |size: usize| {
            let part = |text: &str| Value::BulkString(text.into());
            subscription
                .queue
                .accept(vec![part("p"), part("c"), Value::BulkString(vec![0; size - 1])]);
        };
        let before = metrics::EMITTER_MESSAGES_OVERFLOWED.get();
        let dropped = || metrics::EMITTER_MESSAGES_OVERFLOWED.get() - before;
        push(51);
        assert_eq!(dropped(), 1, "too large");
        push(50);
        push(49);
        push(2);
        assert_eq!(dropped(), 2, "too many bytes");
        push(1);
        push(1);
        assert_eq!(dropped(), 3, "too many messages");
        drop(subscription.received.try_recv().unwrap());
        let part = Value::BulkString(vec![0; 20]);
        subscription
            .queue
            .accept(vec![part.clone(), part.clone(), part.clone()]);
        assert_eq!(dropped(), 3, "there is room again");
    }
}
