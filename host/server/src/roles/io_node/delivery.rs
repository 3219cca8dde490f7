//! From command to socket: takes the outbox in order and applies each command to this node's clients.
//!
//! Nothing here waits for a client. A packet goes into the session's send queue, and the engine disconnects a client that does
//! not read while its queue grows.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::directory::Directory;
use super::handle::IoHandle;
use super::hooks::{CustomCommand, Hooks};
use super::member::Member;
use super::questions::Questions;
use super::requests::Asked;
use plugnode_message::{Audience, Command, DisconnectReason, EventKind, Payload};
use plugnode_process::log_limiter;
use plugnode_process::metrics;
use plugnode_process::shutdown::Shutdown;
use plugnode_transport::{Outbox, Result};

/// The longest that a handler may wait for an acknowledgement.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Applies commands to the clients of this node.
pub(super) struct Delivery {
    pub(super) directory: Arc<Directory>,
    pub(super) questions: Arc<Questions>,
    pub(super) hooks: Hooks,
    pub(super) handle: IoHandle,
    pub(super) shutdown: Shutdown,
}

impl Delivery {
    /// Applies what comes until this io-node leaves the cluster. Cancel safe.
    ///
    /// # Errors
    /// When this io-node was fenced, or the transport cannot go on.
    pub(super) async fn run(&self, mut outbox: Box<dyn Outbox>) -> Result<Infallible> {
        loop {
            for command in outbox.next().await? {
                self.apply(command);
            }
            // Lets the sockets' own tasks write between batches.
            tokio::task::yield_now().await;
        }
    }

    fn apply(&self, command: Command) {
        self.hooks.command(&self.handle, &command);
        match command {
            Command::Publish {
                to,
                event,
                args,
                volatile,
                ..
            } => self.publish(&to, &event, &args, volatile),
            Command::Subscribe { who, channels } => self.for_each(&who, |member| {
                if member.clients.subscribe(&member.id, &channels).is_err() {
                    metrics::SUBSCRIPTIONS_REFUSED.increment();
                    if log_limiter::allows(member.namespace(), "too many channels") {
                        warn!(client = %member.id, namespace = %member.namespace(), "not subscribed: it has too many channels");
                    }
                }
            }),
            Command::Unsubscribe { who, channels } => {
                self.for_each(&who, |member| member.clients.unsubscribe(&member.id, &channels));
            }
            Command::Ack { id, args } => {
                if let Some(member) = self.directory.find(&id.namespace, &id.client) {
                    member.acknowledge(id.number, &args);
                }
            }
            Command::Request {
                to,
                event,
                args,
                timeout_ms,
                token,
            } => {
                let timeout = Duration::from_millis(timeout_ms.into()).min(LONGEST_WAIT);
                self.for_each(&to, |member| {
                    self.request(member, &event, &args, timeout, token.clone())
                });
            }
            Command::Disconnect { who, close_transport } => self.for_each(&who, |member| match close_transport {
                true => member.expel(DisconnectReason::Server),
                false => member.disconnect(),
            }),
            Command::PatchAttributes {
                namespace,
                client,
                patch,
                number,
            } => {
                let Some(member) = self.directory.find(&namespace, &client) else {
                    return;
                };
                if let Err(reason) = member.patch(&patch, number) {
                    metrics::PATCHES_REFUSED.increment();
                    if log_limiter::allows(&namespace, "attributes refused") {
                        warn!(%client, %namespace, "attributes stay as they were: {reason}");
                    }
                }
            }
            Command::Custom { io_node, kind, data } => {
                let custom = CustomCommand { kind, data, io_node };
                if !self.hooks.custom(&self.handle, custom) {
                    metrics::COMMANDS_DROPPED.increment();
                    debug!("custom command without a taker");
                }
            }
            Command::Admit {
                namespace,
                client,
                refusal,
            } => {
                let clients = self.directory.clients(&namespace);
                if let Some(member) = clients.and_then(|clients| clients.find_at_door(&client)) {
                    member.decided(refusal.as_ref());
                }
            }
            Command::Ask {
                asker,
                question,
                timeout_ms,
                token,
            } => self.questions.asked(asker, question, timeout_ms, token),
            Command::Answer { asker, from, part } => self.questions.answered(&asker, from, part),
            Command::Fire {
                namespace,
                client,
                fired,
                kind,
                data,
            } => {
                // A client that is gone has taken its timers along.
                if let Some(member) = self.directory.find(&namespace, &client) {
                    member.enqueue(EventKind::Timer { fired, kind, data });
                }
            }
        }
    }

    fn publish(&self, to: &Audience, event: &str, args: &Payload, volatile: bool) {
        let Some(clients) = self.directory.clients(&to.namespace) else {
            return;
        };
        let audience = clients.audience(to);
        if audience.is_empty() {
            return;
        }
        let packet = clients.common.codec.event(&to.namespace, event, args, None);
        let push = |member: &Member, packet| match volatile {
            true => member.push_volatile(packet),
            false => member.push(packet),
        };
        let Some((last, others)) = audience.split_last() else {
            return;
        };
        for member in others {
            push(member, packet.clone());
        }
        push(last, packet);
    }

    /// Asks one client, and takes its answer, or that there was none, in as an event of that client.
    fn request(&self, member: &Arc<Member>, event: &str, args: &Payload, timeout: Duration, token: Bytes) {
        let number = member.request(event, args, Asked::Reply(token));
        let (asked, shutdown) = (Arc::downgrade(member), self.shutdown.clone());
        self.shutdown.spawn(async move {
            tokio::select! {
                () = sleep(timeout) => {}
                () = shutdown.begun() => return,
            }
            let Some(member) = asked.upgrade() else { return };
            if let Some(Asked::Reply(token)) = member.requests.take(number) {
                let answer = None;
                member.enqueue(EventKind::Reply { token, answer });
            }
        });
    }

    fn for_each(&self, who: &Audience, act: impl Fn(&Arc<Member>)) {
        self.directory.audience(who).iter().for_each(act);
    }
}
