//! A door for the verbs of the command line to a running process on the transport in memory, over a Unix socket.
//!
//! Over Redis nobody needs it, since everybody reaches Redis. The socket is for the user that the process runs as, and for
//! root; what comes in is bounded and believed in nothing. It knows no release and no verb: it carries the
//! [`Operations`](plugnode_transport::Operations) of a transport from one process to another.

mod client;
mod place;
mod server;
mod wire;

pub use client::Remote;
pub use place::{path, reachable};
pub use server::Socket;

#[cfg(test)]
mod tests;
