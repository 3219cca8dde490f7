//! Checks requests before a session opens: the host that they name, the origin of the page, and the limits per client address.
//!
//! Tokens are checked later, when the client joins a namespace.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use http::HeaderMap;

use super::address_limits::{AddressLimits, PerAddress, SessionPermit, TooMany};
use super::hosts::{HostNotAllowed, Hosts};
use super::origin::{CorsHeaders, OriginNotAllowed, Origins};
use super::setup::IoNodeSetup;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum AccessDenied {
    #[error(transparent)]
    Host(#[from] HostNotAllowed),
    #[error(transparent)]
    Origin(#[from] OriginNotAllowed),
}

/// The checks of requests to the engine.
pub(super) struct AccessCheck {
    hosts: Hosts,
    origins: Origins,
    addresses: Arc<AddressLimits>,
    /// Delay of the answer to a new session.
    pub(super) delay: Duration,
}

impl AccessCheck {
    /// # Errors
    /// If one of the allowed origins is not an origin.
    pub(super) fn new(setup: &IoNodeSetup) -> Result<Self> {
        Ok(Self {
            hosts: Hosts::new(setup.allowed_hosts.as_deref()),
            origins: Origins::new(&setup.settings.allowed_origins)?,
            addresses: AddressLimits::new(setup.settings.per_address),
            delay: setup.settings.handshake_delay,
        })
    }

    /// Checks host and origin of a request. Returns the CORS headers of its answer.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<CorsHeaders, AccessDenied> {
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
