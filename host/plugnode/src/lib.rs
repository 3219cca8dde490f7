//! plugnode runs Socket.IO applications as WebAssembly components.
//!
//! To run plugnode's roles within a Rust program, begin with [`embed`]. The command line is [`cli`].
//!
//! A message takes this way through the crates:
//!
//! 1. `engine-io` holds the session of a client, over WebSocket or polling.
//! 2. `plugnode-socket-io` parses and encodes packets, and keeps namespaces, rooms and sockets.
//! 3. `plugnode-server` is the io-node: it turns packets into events.
//! 4. `plugnode-transport` stores the event, in memory or over Redis (`plugnode-transport-redis`), and delivers it to the app-node that
//!    has the lease of the client's partition.
//! 5. `plugnode-runtime` runs the handler in an instance of the app's pool.
//! 6. The app-node commits the effects. The transport puts the commands among them into the outboxes of io-nodes, which apply them.
//!
//! The types of all these crates are in `plugnode-message`. `plugnode-release` decides which component an app runs.

pub mod cli;
pub mod embed;

pub use plugnode_message as message;
pub use plugnode_process::shutdown;
pub use plugnode_server::http;

/// The transports: in memory, and over Redis.
pub mod transport {
    pub use plugnode_transport::*;
    pub use plugnode_transport_redis::{Redis, RedisSettings, TlsFiles};
}
