//! Who may open a session, as far as a request shows: for which hosts, pages of which origins, and how many from one address.
//!
//! Tokens are checked later, when the client joins a namespace.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use http::HeaderMap;

use super::address_limits::{AddressLimits, PerAddress, SessionPermit, TooMany};
use super::hosts::{Hosts, WrongHost};
use super::origin::{CorsHeaders, Forbidden, Origins};
use super::settings::IoNodeSettings;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Barred {
    #[error(transparent)]
    Host(#[from] WrongHost),
    #[error(transparent)]
    Page(#[from] Forbidden),
}

/// Checks requests of the engine.
pub(super) struct Entrance {
    hosts: Hosts,
    origins: Origins,
    addresses: Arc<AddressLimits>,
    /// How long the answer to a new session is delayed.
    pub(super) delay: Duration,
}

impl Entrance {
    /// # Errors
    /// If one of the allowed origins is not an origin.
    pub(super) fn new(settings: &IoNodeSettings) -> Result<Self> {
        Ok(Self {
            hosts: Hosts::new(settings.allowed_hosts.as_deref()),
            origins: Origins::new(&settings.allowed_origins)?,
            addresses: AddressLimits::new(settings.per_address),
            delay: settings.handshake_delay,
        })
    }

    /// Checks host and origin of a request. Returns the CORS headers of its answer.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<CorsHeaders, Barred> {
        self.hosts.check(headers)?;
        Ok(self.origins.check(headers)?)
    }

    /// Changes the limits of one address for new sessions.
    pub(super) fn set_limits(&self, limits: PerAddress) {
        self.addresses.set(limits);
    }

    /// Permits a session from this address. The session holds the permit as long as it lives.
    pub(super) fn permit(&self, peer: Option<SocketAddr>) -> Result<Option<SessionPermit>, TooMany> {
        match peer {
            Some(peer) => self.addresses.permit(peer.ip(), Instant::now()),
            None => Ok(None),
        }
    }
}
