//! Applies commands for an audience to the sockets of this io-node. It does not know where the commands come from.

use std::sync::Arc;

use tracing::warn;

use plugnode_message::{Audience, Channel, ChannelChange, EventKind, Payload};
use plugnode_process::log_limiter;
use plugnode_process::metrics;
use plugnode_socket_io::{NamespaceRegistry, Socket};

/// The sockets of this io-node, as commands address them.
#[derive(Clone)]
pub(super) struct ClientCommands {
    pub(super) namespaces: Arc<NamespaceRegistry<Socket>>,
}

impl ClientCommands {
    /// Sends an event, which is encoded once.
    pub(super) fn publish(&self, to: &Audience, event: &str, args: &Payload, volatile: bool) {
        let Some(sockets) = self.namespaces.sockets(&to.namespace) else {
            return;
        };
        let audience = sockets.audience(to);
        if audience.is_empty() {
            return;
        }
        let packet = sockets.context.codec.event(&to.namespace, event, args, None);
        let send = |socket: &Socket, packet| match volatile {
            true => socket.send_volatile(packet),
            false => socket.send(packet),
        };
        let Some((last, others)) = audience.split_last() else {
            return;
        };
        for socket in others {
            send(socket, packet.clone());
        }
        send(last, packet);
    }

    /// Adds sockets to channels. A socket that would be in too many is added to none.
    pub(super) fn subscribe(&self, who: &Audience, channels: &[Channel]) {
        self.for_each(who, |socket| {
            match socket.namespace.join_rooms(&socket.id, channels) {
                Ok(joined) if joined.is_empty() => {}
                Ok(joined) => enqueue(socket, ChannelChange { joined, ..Default::default() }),
                Err(_) => {
                    metrics::SUBSCRIPTIONS_REFUSED.increment();
                    if log_limiter::allows(socket.namespace(), "too many channels") {
                        warn!(client = %socket.id, namespace = %socket.namespace(), "client not subscribed: it has too many channels; raise [io-node] channels-per-client");
                    }
                }
            }
        });
    }

    /// Removes sockets from channels.
    pub(super) fn unsubscribe(&self, who: &Audience, channels: &[Channel]) {
        self.for_each(who, |socket| {
            let left = socket.namespace.leave_rooms(&socket.id, channels);
            if !left.is_empty() {
                enqueue(
                    socket,
                    ChannelChange {
                        left,
                        ..Default::default()
                    },
                );
            }
        });
    }

    /// Disconnects sockets, or closes their connections.
    pub(super) fn disconnect(&self, who: &Audience, close_transport: bool) {
        self.for_each(who, |socket| match close_transport {
            true => socket.close_connection(),
            false => socket.disconnect(),
        });
    }

    /// Calls `act` for each socket of an audience.
    pub(super) fn for_each(&self, who: &Audience, act: impl Fn(&Arc<Socket>)) {
        self.namespaces.audience(who).iter().for_each(act);
    }
}

/// Tells the app-nodes of a change of a client's channels. A socket that has closed tells them by its disconnect.
fn enqueue(socket: &Arc<Socket>, change: ChannelChange) {
    socket.enqueue(EventKind::Channels(change));
}
