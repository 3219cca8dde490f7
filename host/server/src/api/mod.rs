//! The server API: a way in for back offices and other systems, over HTTP, on a port of its own.
//!
//! In the order in which a request travels:
//!
//! - `service` answers a request. `keys` finds its key, `media` reads and writes JSON and MessagePack, `request` turns the body into a
//!   `plan`: the call to make. What is refused is a [`Problem`](problem), as RFC 9457 has it.
//! - `member` is a member of the transport without clients. It offers calls to the transport as events and hears their answers.
//!
//! `client` makes requests, for the command line.
//!
//! An app-node carries out the call (`roles::app_node::calls`). The API knows neither sockets nor handlers.

mod client;
mod keys;
mod media;
mod member;
mod openapi;
mod plan;
mod problem;
mod request;
mod service;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::http::{self, HttpSettings};
use plugnode_message::NodeId;
use plugnode_message::namespaces::Namespaces;
use plugnode_process::shutdown::Shutdown;
use plugnode_transport::Transport;

pub use self::client::call;
pub use self::keys::{KeyRing, KeySettings, Permission};
use self::member::Member;
use self::service::ApiService;

/// Settings of the server API.
pub struct ApiSettings {
    /// Name of the API node in the transport.
    pub node: NodeId,
    /// The keys.
    pub keys: KeyRing,
    /// Namespaces that an app serves.
    pub namespaces: Namespaces<()>,
    /// Bytes of a request body.
    pub max_body: usize,
    /// Items of a batch.
    pub max_batch: usize,
    /// Calls at once.
    pub max_calls: usize,
    /// Time to receive a body.
    pub body_timeout: Duration,
    /// Time for the transport to accept a call.
    pub accept_timeout: Duration,
    /// Time for a call to be committed.
    pub commit_timeout: Duration,
    /// The port.
    pub http: HttpSettings,
}

/// A running server API. Clones are handles of the same one.
#[derive(Clone)]
pub struct Api(ApiService);

impl Api {
    /// Serves the API on this listener until shutdown begins, and completes the requests that are running by then.
    pub fn start(listener: TcpListener, settings: ApiSettings, transport: Transport, shutdown: &Shutdown) -> Self {
        let http = settings.http.clone();
        let member = Member::start(settings.node.clone(), transport, shutdown);
        let service = ApiService::new(settings, member);
        let (serving, ending) = (service.clone(), shutdown.clone());
        shutdown.spawn(async move { http::serve(listener, serving, &http, ending).await });
        Self(service)
    }

    /// Uses these keys from now on.
    pub fn replace_keys(&self, keys: KeyRing) {
        self.0.replace_keys(Arc::new(keys));
    }
}
