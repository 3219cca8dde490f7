//! Applies what programs publish through `@socket.io/redis-emitter` to the sockets of this io-node. Each io-node does so by itself.
//!
//! At most once: what is published while the subscription of this io-node is away is lost. There is no order between these messages and the
//! effects of handlers.

use bytes::Bytes;
use tracing::warn;

use super::client_commands::ClientCommands;
use plugnode_message::{Command, Namespace};
use plugnode_process::log_limiter;
use plugnode_process::metrics;
use plugnode_socket_io::{EmitterError, EmitterProtocol};

/// Receives messages of emitters.
pub struct EmitterBridge {
    pub(super) protocol: EmitterProtocol,
    pub(super) clients: ClientCommands,
}

impl EmitterBridge {
    /// The patterns of the channels of Redis that it needs.
    pub fn patterns(&self) -> [String; 2] {
        self.protocol.patterns()
    }

    /// Applies a message of a channel. One that is invalid is counted and logged.
    pub fn apply(&self, channel: &Bytes, message: &Bytes) {
        let channel = String::from_utf8_lossy(channel);
        let error = match self.protocol.decode(&channel, message) {
            Ok(command) => return self.apply_command(&command),
            Err(error) => error,
        };
        let reason = match error {
            EmitterError::Unsupported(_) => {
                metrics::EMITTER_REQUESTS_UNSUPPORTED.increment();
                "unsupported request of an emitter"
            }
            _ => {
                metrics::EMITTER_MESSAGES_INVALID.increment();
                "invalid message of an emitter"
            }
        };
        // The name of the channel is not trusted.
        if log_limiter::allows(&Namespace::from("(emitters)"), reason) {
            let channel: String = channel.chars().take(100).collect();
            warn!(channel, bytes = message.len(), %error, "message of an emitter ignored");
        }
    }

    fn apply_command(&self, command: &Command) {
        match command {
            Command::Publish {
                to,
                event,
                args,
                volatile,
                ..
            } => self.clients.publish(to, event, args, *volatile),
            Command::Subscribe { who, channels } => self.clients.subscribe(who, channels),
            Command::Unsubscribe { who, channels } => self.clients.unsubscribe(who, channels),
            Command::Disconnect { who, close_transport } => self.clients.disconnect(who, *close_transport),
            // Emitters ask for nothing else.
            _ => return,
        }
        metrics::EMITTER_MESSAGES.increment();
    }
}
