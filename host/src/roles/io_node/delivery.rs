//! From command to socket: takes the outbox in order and applies each command to this node's clients.
//!
//! Nothing here waits for a client. A packet goes into the socket's send queue, and a client that lets its queue grow
//! past the limit is disconnected by its session.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use socketioxide_core::Sid;
use socketioxide_core::adapter::{BroadcastFlags, BroadcastOptions};
use socketioxide_core::packet::Packet;
use tracing::{debug, warn};

use super::args;
use super::clients::{Clients, FRAME, Member};
use super::door::all_but;
use crate::counts;
use crate::message::{Audience, Channel, Command, DisconnectReason, Namespace, Payload, Scope, Selection, SessionId};
use crate::shutdown::Shutdown;
use crate::transport::{Outbox, Result};

/// The longest that a handler may wait for an acknowledgement.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Applies commands to the clients of this node.
pub(super) struct Delivery {
    pub(super) namespaces: HashMap<Namespace, Arc<Clients>>,
    pub(super) shutdown: Shutdown,
}

/// The sockets that an audience comes to here.
enum Sockets {
    /// Whatever socketioxide finds in its rooms, at one stroke.
    Chosen(Box<BroadcastOptions>),
    /// These.
    Listed(Vec<Sid>),
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
        match command {
            Command::Publish {
                to,
                event,
                args,
                volatile,
                ..
            } => self.publish(&to, &event, &args, volatile),
            Command::Subscribe { who, channels } => self.for_each(&who, |member| {
                member.while_here(|door| door.join(member.sid, rooms(&channels)));
            }),
            Command::Unsubscribe { who, channels } => self.for_each(&who, |member| {
                member.while_here(|door| door.leave(member.sid, rooms(&channels)));
            }),
            Command::Ack { id, args } => self.acknowledge(&id.namespace, &id.client, id.number, &args),
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
            Command::Disconnect { who, close_transport } => {
                self.for_each(&who, |member| self.disconnect(member, close_transport));
            }
            Command::PatchAttributes {
                namespace,
                client,
                patch,
            } => {
                let Some(member) = self.find(&namespace, &client) else {
                    return;
                };
                if let Err(reason) = member.patch(&patch) {
                    counts::PATCHES_REFUSED.one();
                    warn!(%client, %namespace, "attributes stay as they were: {reason}");
                }
            }
            // Nothing embeds this io-node that could be told.
            Command::Custom { kind, .. } => {
                counts::COMMANDS_DROPPED.one();
                debug!(%kind, "custom command without a taker");
            }
            Command::Admit { .. } | Command::Ask { .. } | Command::Answer { .. } => counts::COMMANDS_DROPPED.one(),
        }
    }

    fn publish(&self, to: &Audience, event: &str, args: &Payload, volatile: bool) {
        let Some(clients) = self.namespaces.get(&to.namespace) else {
            return;
        };
        let packet = Packet::event(to.namespace.as_str().to_owned(), args::write_event(event, args));
        let weight = event.len() + args.size() + FRAME;
        match sockets(clients, to) {
            Sockets::Chosen(mut options) => {
                if volatile {
                    options.add_flag(BroadcastFlags::Volatile);
                } else {
                    for sid in clients.door().sockets((*options).clone()) {
                        clients.get(sid).inspect(|member| member.charge(weight));
                    }
                }
                clients.door().send(packet, *options);
            }
            Sockets::Listed(sids) => {
                for sid in sids {
                    let mut options = BroadcastOptions::new(sid);
                    if volatile {
                        options.add_flag(BroadcastFlags::Volatile);
                    } else {
                        clients.get(sid).inspect(|member| member.charge(weight));
                    }
                    clients.door().send(packet.clone(), options);
                }
            }
        }
    }

    fn acknowledge(&self, namespace: &Namespace, client: &SessionId, number: i64, args: &Payload) {
        if let Some(member) = self.find(namespace, client).filter(|member| member.settle(number)) {
            member.answer(number, args);
        }
    }

    /// Asks one client, and takes its answer in as an event of that client.
    fn request(&self, member: &Arc<Member>, event: &str, args: &Payload, timeout: Duration, token: Bytes) {
        let Some(clients) = self.namespaces.get(member.namespace()) else {
            return;
        };
        member.charge(event.len() + args.size() + FRAME);
        let packet = Packet::event(member.namespace().as_str().to_owned(), args::write_event(event, args));
        let answers = clients.door().request(packet, member.sid, timeout);
        if !member.requests.add(token, answers) {
            return;
        }
        let (member, shutdown) = (member.clone(), self.shutdown.clone());
        self.shutdown.spawn(async move {
            tokio::select! {
                () = member.requests.wait(|answered| member.answered(answered)) => {}
                () = shutdown.begun() => {}
            }
        });
    }

    fn disconnect(&self, member: &Arc<Member>, close_transport: bool) {
        if close_transport {
            member.see_off(DisconnectReason::Server, &self.shutdown);
            return;
        }
        if let Some(socket) = member.socket.upgrade() {
            // Fails only when the connection is being ended already.
            let _ = socket.disconnect();
        }
    }

    fn find(&self, namespace: &Namespace, client: &SessionId) -> Option<Arc<Member>> {
        self.namespaces.get(namespace)?.find(client)
    }

    fn for_each(&self, who: &Audience, act: impl Fn(&Arc<Member>)) {
        let Some(clients) = self.namespaces.get(&who.namespace) else {
            return;
        };
        let sids = match sockets(clients, who) {
            Sockets::Chosen(options) => clients.door().sockets(*options),
            Sockets::Listed(sids) => sids,
        };
        sids.into_iter()
            .filter_map(|sid| clients.get(sid))
            .for_each(|member| act(&member));
    }
}

/// Finds an audience. socketioxide can leave out rooms and one socket beside; where more is asked, the sockets are
/// listed here.
fn sockets(clients: &Clients, audience: &Audience) -> Sockets {
    let except: Vec<Sid> = audience.except.clients.iter().filter_map(sid).collect();
    let (named, channels) = match &audience.to {
        Scope::All => (&[][..], None),
        Scope::Only(Selection { clients, channels }) => (&clients[..], Some(&channels[..])),
    };
    let nobody_by_channel = channels.is_some_and(<[Channel]>::is_empty);
    if named.is_empty() && except.len() <= 1 && !nobody_by_channel {
        return Sockets::Chosen(Box::new(in_channels(
            channels.unwrap_or_default(),
            &audience.except.channels,
            except.first(),
        )));
    }
    let mut listed = match nobody_by_channel {
        true => Vec::new(),
        false => clients.door().sockets(in_channels(
            channels.unwrap_or_default(),
            &audience.except.channels,
            None,
        )),
    };
    let mut seen: HashSet<Sid> = listed.iter().chain(&except).copied().collect();
    if !audience.except.channels.is_empty() {
        seen.extend(
            clients
                .door()
                .sockets(in_channels(&audience.except.channels, &[], None)),
        );
    }
    listed.retain(|sid| !except.contains(sid));
    listed.extend(
        named
            .iter()
            .filter_map(sid)
            .filter(|sid| seen.insert(*sid) && clients.get(*sid).is_some()),
    );
    Sockets::Listed(listed)
}

/// The sockets in these channels, or in the namespace when there are none.
fn in_channels(channels: &[Channel], except: &[Channel], but: Option<&Sid>) -> BroadcastOptions {
    let mut options = all_but(but.copied());
    options
        .rooms
        .extend(channels.iter().map(|channel| channel.to_string().into()));
    options
        .except
        .extend(except.iter().map(|channel| channel.to_string().into()));
    options
}

fn rooms(channels: &[Channel]) -> Vec<String> {
    channels.iter().map(Channel::to_string).collect()
}

fn sid(client: &SessionId) -> Option<Sid> {
    client.as_str().parse().ok()
}
