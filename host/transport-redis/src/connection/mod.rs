//! How Redis is reached: a single server, one that Sentinels name, or a Cluster; over TCP, TLS or a Unix socket.
//!
//! A [`Server`] is what a URL says. `startup` looks it over before it is used. A [`Link`] is one logical connection to it
//! that outlasts the real ones: what is asked over it is asked again until it is answered, and `trouble` and `outage` say
//! meanwhile what is wrong, in words and once. It knows no key and no script of the transport.

#[cfg(test)]
mod faults;
#[cfg(test)]
mod kinds;
mod link;
mod outage;
mod pace;
mod patience;
mod request;
mod script;
mod sentinel;
mod server;
mod startup;
#[cfg(test)]
pub(super) mod testing;
mod tls;
mod trouble;
mod url;
mod watch;

use super::{RedisSettings, TlsFiles};

pub(super) use self::link::Link;
pub(super) use self::script::Script;
pub(super) use self::server::Server;

/// Whether this is a URL of Redis, and else why not.
pub fn check_url(url: &str) -> Result<(), String> {
    url::Location::parse(url).map(|_| ())
}
