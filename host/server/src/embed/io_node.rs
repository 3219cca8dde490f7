//! An io-node in a program, and what the program has to say in it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpListener;
use tracing::error;

use crate::config::{self, Config};
use crate::http::{self as server, Health, HttpSettings, WebSockets};
use crate::roles::frontend::Frontend;
use crate::roles::io_node::{
    self, AppNamespace, CustomCommand, Hooks, Inner, IoHandle, IoService, Newcomer, undecided,
};
use crate::settings;
use plugnode_message::{Command, Event, Refusal};
use plugnode_process::shutdown::Shutdown;
use plugnode_transport::Transport;

/// A running io-node. What is no request of Socket.IO goes to `S`. It ends with the shutdown that it was started with.
pub struct IoNode<S: Clone = Frontend> {
    service: IoService<S>,
    handle: IoHandle,
    shutdown: Shutdown,
}

/// An io-node that is to be.
#[must_use = "it is started by `start` or `start_around`"]
pub struct IoNodeBuilder {
    transport: Transport,
    settings: config::IoNode,
    address: SocketAddr,
    doors: Vec<AppNamespace>,
    hooks: Hooks,
}

impl IoNode {
    /// Begins an io-node that is to join this transport, with the defaults of `plugnode run`.
    pub fn builder(transport: impl Into<Transport>) -> IoNodeBuilder {
        IoNodeBuilder {
            transport: transport.into(),
            settings: config::IoNode::default(),
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            doors: Vec::new(),
            hooks: Hooks::default(),
        }
    }
}

impl IoNodeBuilder {
    /// The settings that `[io-node]` has in a configuration file.
    pub fn settings(self, settings: config::IoNode) -> Self {
        Self { settings, ..self }
    }

    /// Where it listens, which is what clients are told by a frontend unless its settings say what to `advertise`.
    pub fn listens_at(self, address: SocketAddr) -> Self {
        Self { address, ..self }
    }

    /// Clients may enter this namespace, or those of a pattern such as `/shop/{id}`: an app of that name handles what they
    /// do. Without any, `/` is the one.
    pub fn namespace(self, namespace: &str) -> Self {
        self.door(namespace, None)
    }

    /// The same for an app with `admission = true`, whose handler has so long to let a client in.
    pub fn namespace_with_admission(self, namespace: &str, timeout: Duration) -> Self {
        self.door(namespace, Some(timeout))
    }

    /// Gives each client its first attributes: `client_info` is called when a client is about to enter a namespace, and what
    /// it returns, an object, is laid over those that the settings give it. With a [`Refusal`] the client is told a
    /// `connect_error` and never was there. It is called where the client's connection is read, and must not wait.
    ///
    /// socket.io-cluster called this `getClientInfo`.
    pub fn client_info<T: Serialize>(
        mut self,
        client_info: impl Fn(&Newcomer<'_>) -> Result<T, Refusal> + Send + Sync + 'static,
    ) -> Self {
        self.hooks.client_info = Some(Arc::new(move |newcomer| {
            match client_info(newcomer).map(serde_json::to_value)? {
                Ok(Value::Object(attributes)) => Ok(attributes),
                Ok(_) => {
                    error!(
                        namespace = newcomer.namespace,
                        "client_info gives something else than an object"
                    );
                    Err(undecided())
                }
                Err(error) => {
                    error!(namespace = newcomer.namespace, %error, "client_info gives what is no JSON");
                    Err(undecided())
                }
            }
        }));
        self
    }

    /// Takes what handlers send by `send_custom`, in the order in which this io-node is given it. A command for all io-nodes
    /// comes to each. Clients wait for their commands meanwhile, so it must not wait.
    pub fn on_custom(mut self, on_custom: impl Fn(&IoHandle, CustomCommand) + Send + Sync + 'static) -> Self {
        self.hooks.on_custom = Some(Arc::new(on_custom));
        self
    }

    /// Hears of each event of a client before it goes to its app, each client's in order: socket.io-cluster's `socket
    /// connection`, `socket message` and `socket disconnect`. It changes nothing about them, and must not wait.
    pub fn on_event(mut self, on_event: impl Fn(&IoHandle, &Event) + Send + Sync + 'static) -> Self {
        self.hooks.on_event = Some(Arc::new(on_event));
        self
    }

    /// Hears of each command of a handler before it is applied: socket.io-cluster's `app publish`, `app
    /// subscribe-to-channel` and so on. It changes nothing about them, and must not wait.
    pub fn on_command(mut self, on_command: impl Fn(&IoHandle, &Command) + Send + Sync + 'static) -> Self {
        self.hooks.on_command = Some(Arc::new(on_command));
        self
    }

    /// Joins the transport. What is no request of Socket.IO is answered by 404.
    ///
    /// # Errors
    /// When the settings cannot be used, or the transport cannot be joined.
    pub async fn start(self, shutdown: &Shutdown) -> Result<IoNode> {
        self.start_around(Frontend::absent(), shutdown).await
    }

    /// Joins the transport. What is no request of Socket.IO goes to `inner`: a [`Frontend`], or a service of the
    /// program's own. One of tower, such as axum's router, becomes one of hyper by
    /// `hyper_util::service::TowerToHyperService`.
    ///
    /// # Errors
    /// When the settings cannot be used, or the transport cannot be joined.
    pub async fn start_around<S: Inner>(self, inner: S, shutdown: &Shutdown) -> Result<IoNode<S>> {
        let config = Config {
            io_node: self.settings,
            ..Config::default()
        };
        let mut settings = settings::io_node(&config, self.address);
        if config.io_node.allowed_hosts.is_none() {
            // Where it listens is the program's to know, and may be behind any name.
            settings.allowed_hosts = None;
        }
        settings.apps = match self.doors.is_empty() {
            true => vec![door("/", None)],
            false => self.doors,
        };
        let started = io_node::start_embedded(settings, self.hooks, self.transport, inner, shutdown).await;
        let (service, handle) = started.context("the io-node cannot start")?;
        Ok(IoNode {
            service,
            handle,
            shutdown: shutdown.clone(),
        })
    }

    fn door(mut self, namespace: &str, admission: Option<Duration>) -> Self {
        self.doors.push(door(namespace, admission));
        self
    }
}

impl<S: Clone> IoNode<S> {
    /// What the program does with its clients.
    pub fn handle(&self) -> &IoHandle {
        &self.handle
    }

    /// What answers requests: a service of hyper, whose WebSockets [`http`](crate::http) takes over, and one of tower for a
    /// server of the program's own, which does not know the addresses of peers: see `roles/io_node/mounted.rs`.
    pub fn service(&self) -> IoService<S> {
        self.service.clone()
    }
}

impl<S> IoNode<S>
where
    S: Inner,
    S::Error: Into<server::BoxError>,
{
    /// Serves what comes to the listener, health checks as well, until shutdown begins.
    pub async fn serve(&self, listener: TcpListener, settings: &HttpSettings) {
        let websockets: Arc<dyn WebSockets> = Arc::new(self.service());
        let service = Health::new(self.service(), self.service.joined(), self.shutdown.clone());
        server::serve_with_websockets(listener, service, websockets, settings, self.shutdown.clone()).await;
    }
}

fn door(namespace: &str, admission: Option<Duration>) -> AppNamespace {
    AppNamespace {
        namespace: namespace.into(),
        admission,
    }
}
