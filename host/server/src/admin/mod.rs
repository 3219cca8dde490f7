//! Gives the command line access to a running process with the memory transport, over a Unix socket.
//!
//! With Redis it is not needed: the command line connects to Redis. The socket is only for root and the user that the process runs
//! as; requests are limited in size and validated. This module knows neither releases nor verbs: it carries the
//! [`Operations`](plugnode_transport::Operations) of a transport from one process to another. `wire` is the protocol,
//! `socket_path` the place of the socket.

mod client;
mod server;
mod socket_path;
mod wire;

pub use self::client::AdminClient;
pub use self::server::AdminListener;
pub use self::socket_path::{path, reachable};

#[cfg(test)]
mod tests;
