//! The HTTP server of a process: accepts connections, serves HTTP/1.1 on them, and ends them when the process ends.
//!
//! One port serves pages, Socket.IO and health checks. This module knows none of them: it calls a hyper service, and hands each
//! WebSocket as a [`Stream`] to an implementation of [`WebSockets`].
//!
//! From accept to close:
//!
//! - [`bind`] opens the port, and `server` accepts. A `connection_limiter` refuses connections beyond the limits.
//! - `connection_server` serves one connection: `proxy_protocol`, [`Tls`], `first_request`, then hyper.
//! - [`Stream`] reads and writes the bytes. Its handle, the [`Connection`], is an extension of each request; with it an io-node
//!   pauses or closes a client's connection.
//! - `handshake` is the upgrade to a WebSocket.
//!
//! Beside it: [`Health`] answers health checks in front of a service, [`Monitoring`] serves operators on a port of their own, and
//! [`TrustedProxies`] finds the client's address behind a proxy.

mod body;
mod connection;
mod connection_limiter;
mod connection_server;
mod error;
mod first_request;
mod handshake;
mod health;
mod listener;
mod monitoring;
mod proxy_protocol;
mod server;
mod settings;
mod stream;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod tls;
mod transport_stream;
mod trusted_proxies;
mod warning_limiter;

pub use self::body::whole_body;
pub use self::connection::Connection;
pub use self::error::BoxError;
pub use self::handshake::{Accepted, Opener, WebSockets};
pub use self::health::{Health, NODE_HEADER, RENEWED_HEADER, Readiness, Ready};
pub use self::listener::{Listener, bind};
pub use self::monitoring::{Check, Monitoring};
pub use self::server::{serve, serve_with_websockets};
pub use self::settings::HttpSettings;
pub use self::stream::Stream;
pub use self::tls::{NewCertificate, Tls};
pub use self::trusted_proxies::TrustedProxies;
