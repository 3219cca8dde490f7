//! Applies the commands of the outbox, in order, to the sockets of this io-node.
//!
//! Nothing here waits for a client. A packet goes into the session's send queue, and the engine disconnects a client that does not read.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::client_commands::ClientCommands;
use super::handle::IoHandle;
use super::hooks::{CustomCommand, Hooks};
use super::questions::Questions;
use plugnode_message::{Command, EventKind, Payload};
use plugnode_process::log_limiter;
use plugnode_process::metrics;
use plugnode_process::shutdown::Shutdown;
use plugnode_socket_io::{ReplyTo, Socket};
use plugnode_transport::{Outbox, Result};

/// The longest time that a handler may wait for an acknowledgement.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);

/// Applies commands to the sockets of this io-node.
pub(super) struct CommandApplier {
    pub(super) clients: ClientCommands,
    pub(super) questions: Arc<Questions>,
    pub(super) hooks: Hooks,
    pub(super) handle: IoHandle,
    pub(super) shutdown: Shutdown,
}

impl CommandApplier {
    /// Applies commands until this io-node leaves the cluster. Cancel safe.
    ///
    /// # Errors
    /// If this io-node was fenced, or the transport failed for good.
    pub(super) async fn run(&self, mut outbox: Box<dyn Outbox>) -> Result<Infallible> {
        loop {
            for command in outbox.next().await? {
                self.apply(command);
            }
            // Lets the tasks of sessions write between batches.
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
            } => self.clients.publish(&to, &event, &args, volatile),
            Command::Subscribe { who, channels } => self.clients.subscribe(&who, &channels),
            Command::Unsubscribe { who, channels } => self.clients.unsubscribe(&who, &channels),
            Command::Ack { id, args } => {
                if let Some(socket) = self.clients.namespaces.find(&id.namespace, &id.client) {
                    socket.acknowledge(id.number, &args);
                }
            }
            Command::Request {
                to,
                event,
                args,
                timeout_ms,
                token,
            } => {
                let timeout = Duration::from_millis(timeout_ms.into()).min(MAX_TIMEOUT);
                self.clients.for_each(&to, |socket| {
                    self.request(socket, &event, &args, timeout, token.clone())
                });
            }
            Command::Disconnect { who, close_transport } => self.clients.disconnect(&who, close_transport),
            Command::PatchAttributes {
                namespace,
                client,
                patch,
                number,
            } => {
                let Some(socket) = self.clients.namespaces.find(&namespace, &client) else {
                    return;
                };
                if let Err(reason) = socket.patch_attributes(&patch, number) {
                    metrics::PATCHES_REFUSED.increment();
                    if log_limiter::allows(&namespace, "attributes refused") {
                        warn!(%client, %namespace, %reason, "attributes not changed");
                    }
                }
            }
            Command::Custom { io_node, kind, data } => {
                let custom = CustomCommand {
                    kind: kind.clone(),
                    data,
                    io_node,
                };
                if !self.hooks.custom(&self.handle, custom) {
                    metrics::COMMANDS_DROPPED.increment();
                    debug!(kind = %kind, "custom command dropped: the program has no hook for it");
                }
            }
            Command::Admit {
                namespace,
                client,
                refusal,
            } => {
                let sockets = self.clients.namespaces.sockets(&namespace);
                if let Some(socket) = sockets.and_then(|sockets| sockets.find_pending(&client)) {
                    socket.decide(refusal.as_ref());
                }
            }
            Command::Ask {
                origin,
                question,
                timeout_ms,
                token,
            } => self.questions.asked(origin, question, timeout_ms, token),
            Command::Answer { origin, from, part } => self.questions.answered(&origin, from, part),
            // For the API node, which is gone.
            Command::CallAnswer(_) => {}
            Command::Fire {
                namespace,
                client,
                fired,
                kind,
                data,
            } => {
                // The timers of a client end with it.
                if let Some(socket) = self.clients.namespaces.find(&namespace, &client) {
                    socket.enqueue(EventKind::Timer { fired, kind, data });
                }
            }
        }
    }

    /// Sends an event that one client has to acknowledge. Its answer, or that there was none in time, becomes an event of that client.
    fn request(&self, socket: &Arc<Socket>, event: &str, args: &Payload, timeout: Duration, token: Bytes) {
        let id = socket.request(event, args, ReplyTo::Handler(token));
        let (asked, shutdown) = (Arc::downgrade(socket), self.shutdown.clone());
        self.shutdown.spawn(async move {
            tokio::select! {
                () = sleep(timeout) => {}
                () = shutdown.begun() => return,
            }
            let Some(socket) = asked.upgrade() else { return };
            if let Some(ReplyTo::Handler(token)) = socket.requests.close(id) {
                let answer = None;
                socket.enqueue(EventKind::Reply { token, answer });
            }
        });
    }
}
