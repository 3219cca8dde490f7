//! Who may open a session, as far as a request tells: pages of which sites, and how many from one address.
//!
//! What a client shows for itself, a token, comes later: with the namespace that it wants to enter.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use http::{HeaderMap, Request};

use super::IoNodeSettings;
use super::limits::{Addresses, Place, TooMany};
use super::origin::{CorsHeaders, Forbidden, Origins};
use crate::http::Connection;

/// The way in.
pub(super) struct Entrance {
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
            origins: Origins::new(&settings.allowed_origins)?,
            addresses: Addresses::new(settings.per_address),
            delay: settings.handshake_delay,
        })
    }

    /// Whether the page that asks may, and what it is told of that.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<CorsHeaders, Forbidden> {
        self.origins.check(headers)
    }

    /// Takes a place for the session that a request opens. It is held for as long as the session lives.
    pub(super) fn take_place<B>(&self, request: &Request<B>) -> Result<Option<Place>, TooMany> {
        match address(request) {
            Some(address) => self.addresses.connect(address, Instant::now()),
            None => Ok(None),
        }
    }

    /// Whether a handshake would be let in, that opens a session or goes on with one.
    pub(super) fn would_take<B>(&self, request: &Request<B>, opens: bool) -> bool {
        let has_room = || address(request).is_none_or(|address| self.addresses.look(address, Instant::now()).is_ok());
        self.check(request.headers()).is_ok() && (!opens || has_room())
    }
}

fn address<B>(request: &Request<B>) -> Option<IpAddr> {
    let connection = request.extensions().get::<Arc<Connection>>();
    Some(connection?.peer()?.ip())
}
