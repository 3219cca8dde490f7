//! Who may open a session, as far as a request tells: for which hosts, pages of which sites, and how many from one address.
//!
//! What a client shows for itself, a token, comes later: with the namespace that it wants to enter.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use http::HeaderMap;

use super::IoNodeSettings;
use super::hosts::{Hosts, WrongHost};
use super::limits::{Addresses, PerAddress, Place, TooMany};
use super::origin::{CorsHeaders, Forbidden, Origins};

/// Why a request is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Barred {
    #[error(transparent)]
    Host(#[from] WrongHost),
    #[error(transparent)]
    Page(#[from] Forbidden),
}

/// The way in.
pub(super) struct Entrance {
    hosts: Hosts,
    origins: Origins,
    addresses: Arc<Addresses>,
    /// How long the answer to a new session is held back.
    pub(super) delay: Duration,
}

impl Entrance {
    /// # Errors
    /// When one of the origins is none.
    pub(super) fn new(settings: &IoNodeSettings) -> Result<Self> {
        Ok(Self {
            hosts: Hosts::new(settings.allowed_hosts.as_deref()),
            origins: Origins::new(&settings.allowed_origins)?,
            addresses: Addresses::new(settings.per_address),
            delay: settings.handshake_delay,
        })
    }

    /// Whether the page that asks may, and what it is told of that.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<CorsHeaders, Barred> {
        self.hosts.check(headers)?;
        Ok(self.origins.check(headers)?)
    }

    /// So much an address may have from now on.
    pub(super) fn limit(&self, limits: PerAddress) {
        self.addresses.limit(limits);
    }

    /// Takes a place for a session from an address. It is held for as long as the session lives.
    pub(super) fn take_place(&self, peer: Option<SocketAddr>) -> Result<Option<Place>, TooMany> {
        match peer {
            Some(peer) => self.addresses.connect(peer.ip(), Instant::now()),
            None => Ok(None),
        }
    }
}
