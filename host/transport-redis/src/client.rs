//! Client of Redis: a single server, one behind Sentinels, or a Cluster; over TCP, TLS or a Unix socket.
//!
//! A [`Server`](server::Server) is the Redis of one URL. [`startup`] checks it before its first use. A [`Link`](link::Link) is one
//! logical connection that survives reconnects: it repeats each request until Redis answers. Meanwhile [`outage`] logs each
//! [`fault`] once, with its remedy. The client knows no keys and no scripts of the transport.

mod address;
mod answer_timeout;
mod connection;
mod dialer;
mod fault;
#[cfg(test)]
mod fault_tests;
pub(crate) mod link;
mod master_watch;
mod next_attempt;
mod outage;
mod request;
pub(crate) mod script;
mod sentinel;
pub(crate) mod server;
pub(crate) mod startup;
pub(crate) mod subscription;
#[cfg(test)]
pub(crate) mod testing;
mod tls;
#[cfg(test)]
mod topology_tests;
mod url;

/// Checks that a text is a valid URL of Redis.
///
/// # Errors
/// The error names the problem and contains no secrets.
pub fn check_url(url: &str) -> Result<(), String> {
    url::Location::parse(url).map(|_| ())
}
