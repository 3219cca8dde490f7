//! plugnode runs Socket.IO applications as WebAssembly components.
//!
//! A Rust program that runs plugnode's roles within itself begins at [`embed`]. The command line is in [`cli`].
//!
//! The way of a message through the crates:
//!
//! 1. `engine-io` holds the session: websocket or polling.
//! 2. `plugnode-socket-io` reads and writes packets, and keeps namespaces, rooms and sockets.
//! 3. `plugnode-server` wires these into the io-node, which makes an event of what a client sent.
//! 4. `plugnode-transport` takes the event in, in memory or by `plugnode-transport-redis`, and gives it to the app-node that owns
//!    the client's partition.
//! 5. `plugnode-runtime` runs the handler in an instance of its pool.
//! 6. The app-node commits the effects; the transport puts their commands into the outboxes of io-nodes, which apply them.
//!
//! All of them speak of the types in `plugnode-message`. `plugnode-release` decides which component an app runs.

pub mod cli;

pub use plugnode_message as message;
pub use plugnode_process::shutdown;
pub use plugnode_server::{embed, http};
pub use plugnode_transport as transport;
