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
mod schema;
mod service;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::net::TcpListener;

use crate::http::{self, HttpSettings};
use crate::roles::node_name;
use plugnode_message::NamePattern;
use plugnode_message::namespaces::Namespaces;
use plugnode_process::shutdown::Shutdown;
use plugnode_transport::Transport;

pub use self::client::call;
pub use self::keys::{KeyRing, Permission};
use self::member::Member;
use self::service::ApiService;
pub use self::settings::{ApiKey, ApiSettings};

/// What a server API is started with.
pub struct ApiSetup {
    /// Settings of `[api]`.
    pub settings: ApiSettings,
    /// The keys of the settings.
    pub keys: Arc<KeyRing>,
    /// Namespaces that an app serves, each with the channels whose presence is kept.
    pub namespaces: Namespaces<Vec<NamePattern>>,
    /// Time-outs of the port; the others of these settings are not used.
    pub http: HttpSettings,
}

impl ApiSetup {
    /// Reads the keys.
    ///
    /// # Errors
    /// If a key or a namespace cannot be used.
    pub fn read<'a>(
        settings: &ApiSettings,
        http: &HttpSettings,
        apps: impl Iterator<Item = (&'a str, &'a [NamePattern])>,
    ) -> anyhow::Result<Self> {
        let mut namespaces = Namespaces::default();
        for (namespace, presence) in apps {
            namespaces
                .insert(namespace, presence.to_vec())
                .map_err(anyhow::Error::msg)?;
        }
        Ok(Self {
            keys: Arc::new(KeyRing::read(settings)?),
            settings: settings.clone(),
            namespaces,
            http: HttpSettings {
                header_timeout: http.header_timeout,
                body_timeout: http.body_timeout,
                write_timeout: http.write_timeout,
                ..HttpSettings::default()
            },
        })
    }
}

/// A running server API. Clones are handles of the same one.
#[derive(Clone)]
pub struct Api(ApiService);

impl Api {
    /// Serves the API on this listener until shutdown begins, and completes the requests that are running by then.
    pub fn start(listener: TcpListener, setup: ApiSetup, transport: Transport, shutdown: &Shutdown) -> Self {
        let http = setup.http.clone();
        let member = Member::start(node_name(None, "api"), transport, shutdown);
        let service = ApiService::new(setup, member);
        let (serving, ending) = (service.clone(), shutdown.clone());
        shutdown.spawn(async move { http::serve(listener, serving, &http, ending).await });
        Self(service)
    }

    /// Uses these keys from now on. Returns whether a secret has changed.
    pub fn replace_keys(&self, keys: KeyRing) -> bool {
        self.0.replace_keys(Arc::new(keys))
    }
}
