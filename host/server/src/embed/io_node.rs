//! An io-node in a program, with the program's hooks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpListener;
use tracing::error;

use crate::config::Config;
use crate::http::{self as server, Health, HttpSettings, Listener, WebSockets};
use crate::roles::frontend::Frontend;
use crate::roles::io_node::{
    self, AppNamespace, ConnectingClient, CustomCommand, Hooks, Inner, IoHandle, IoNodeSettings, IoNodeSetup,
    IoService, undecided,
};
use plugnode_message::{Command, Event, Refusal};
use plugnode_process::shutdown::Shutdown;
use plugnode_transport::Transport;

/// A running io-node. Requests that are not for Socket.IO go to `S`. It stops with the shutdown that it was started with.
pub struct IoNode<S: Clone = Frontend> {
    service: IoService<S>,
    handle: IoHandle,
    shutdown: Shutdown,
}

/// Configures an io-node.
#[must_use = "it is started by `start` or `start_around`"]
pub struct IoNodeBuilder {
    transport: Transport,
    settings: IoNodeSettings,
    address: SocketAddr,
    namespaces: Vec<AppNamespace>,
    hooks: Hooks,
}

impl IoNode {
    /// An io-node on this transport, with the defaults of `plugnode run`.
    pub fn builder(transport: impl Into<Transport>) -> IoNodeBuilder {
        IoNodeBuilder {
            transport: transport.into(),
            settings: IoNodeSettings::default(),
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            namespaces: Vec::new(),
            hooks: Hooks::default(),
        }
    }
}

impl IoNodeBuilder {
    /// The settings of `[io-node]` in a configuration file.
    pub fn settings(self, settings: IoNodeSettings) -> Self {
        Self { settings, ..self }
    }

    /// The address where it listens. Frontends send clients there, unless the settings have another one to `advertise`.
    pub fn listens_at(self, address: SocketAddr) -> Self {
        Self { address, ..self }
    }

    /// Lets clients connect to this namespace, or to those of a pattern such as `/shop/{id}`. Its app must exist on an app-node.
    /// Without any, it is `/`.
    pub fn namespace(self, namespace: &str) -> Self {
        self.add_namespace(namespace, None)
    }

    /// As [`namespace`](Self::namespace), for an app with `admission = true`. `timeout` is the handler's time to admit a client.
    pub fn namespace_with_admission(self, namespace: &str, timeout: Duration) -> Self {
        self.add_namespace(namespace, Some(timeout))
    }

    /// Sets each client's first attributes: `client_info` is called before a client connects to a namespace. It returns an object,
    /// which is merged over the attributes from the settings, or a [`Refusal`], which the client gets as `connect_error`. It runs on
    /// the task that reads the client's connection, and must not block.
    ///
    /// In socket.io-cluster this is `getClientInfo`.
    pub fn client_info<T: Serialize>(
        mut self,
        client_info: impl Fn(&ConnectingClient<'_>) -> Result<T, Refusal> + Send + Sync + 'static,
    ) -> Self {
        self.hooks.client_info = Some(Arc::new(move |newcomer| {
            match client_info(newcomer).map(serde_json::to_value)? {
                Ok(Value::Object(attributes)) => Ok(attributes),
                Ok(_) => {
                    error!(
                        namespace = newcomer.namespace,
                        "client refused: client_info must return a JSON object"
                    );
                    Err(undecided())
                }
                Err(error) => {
                    error!(namespace = newcomer.namespace, %error, "client refused: cannot serialize what client_info returned");
                    Err(undecided())
                }
            }
        }));
        self
    }

    /// Called with each custom command of handlers (`send_custom`), in the order of this io-node's outbox. A command for all
    /// io-nodes reaches each of them. Later commands wait for it, so it must not block.
    pub fn on_custom(mut self, on_custom: impl Fn(&IoHandle, CustomCommand) + Send + Sync + 'static) -> Self {
        self.hooks.on_custom = Some(Arc::new(on_custom));
        self
    }

    /// Called with each event of a client before it goes to its app, in order for each client: socket.io-cluster's `socket
    /// connection`, `socket message` and `socket disconnect`. It cannot change the events, and must not block.
    pub fn on_event(mut self, on_event: impl Fn(&IoHandle, &Event) + Send + Sync + 'static) -> Self {
        self.hooks.on_event = Some(Arc::new(on_event));
        self
    }

    /// Called with each command of a handler before it is applied: socket.io-cluster's `app publish`, `app
    /// subscribe-to-channel` and so on. It cannot change the commands, and must not block.
    pub fn on_command(mut self, on_command: impl Fn(&IoHandle, &Command) + Send + Sync + 'static) -> Self {
        self.hooks.on_command = Some(Arc::new(on_command));
        self
    }

    /// Joins the transport. Requests that are not for Socket.IO are answered with 404.
    ///
    /// # Errors
    /// If the settings cannot be used, or the transport cannot be joined.
    pub async fn start(self, shutdown: &Shutdown) -> Result<IoNode> {
        self.start_around(Frontend::absent(), shutdown).await
    }

    /// Joins the transport. Requests that are not for Socket.IO go to `inner`: a [`Frontend`], or a hyper service of the program.
    /// `hyper_util::service::TowerToHyperService` adapts a tower service, such as axum's router.
    ///
    /// # Errors
    /// If the settings cannot be used, or the transport cannot be joined.
    pub async fn start_around<S: Inner>(self, inner: S, shutdown: &Shutdown) -> Result<IoNode<S>> {
        let config = Config {
            io_node: self.settings,
            ..Config::default()
        };
        let mut setup = IoNodeSetup::new(&config, self.address);
        if config.io_node.allowed_hosts.is_none() {
            // The program may be reached by any host name.
            setup.allowed_hosts = None;
        }
        setup.apps = match self.namespaces.is_empty() {
            true => vec![app_namespace("/", None)],
            false => self.namespaces,
        };
        let started = io_node::start_embedded(setup, self.hooks, self.transport, inner, shutdown).await;
        let (service, handle) = started.context("the io-node cannot start")?;
        Ok(IoNode {
            service,
            handle,
            shutdown: shutdown.clone(),
        })
    }

    fn add_namespace(mut self, namespace: &str, admission: Option<Duration>) -> Self {
        self.namespaces.push(app_namespace(namespace, admission));
        self
    }
}

impl<S: Clone> IoNode<S> {
    /// Access to the io-node's clients.
    pub fn handle(&self) -> &IoHandle {
        &self.handle
    }

    /// The io-node as a service of hyper, for [`http`](crate::http) with WebSockets, and of tower, for the program's own server. That
    /// does not give it the addresses of peers: see `roles/io_node/mounted.rs`.
    pub fn service(&self) -> IoService<S> {
        self.service.clone()
    }
}

impl<S> IoNode<S>
where
    S: Inner,
    S::Error: Into<server::BoxError>,
{
    /// Serves the listener, including health checks, until shutdown begins. It shows the certificate of the settings, if they
    /// name one, and reads it again when its files change.
    ///
    /// # Errors
    /// If the certificate or its key cannot be used.
    pub async fn serve(&self, listener: TcpListener, settings: &HttpSettings) -> Result<()> {
        let tls = settings.read_tls()?;
        let listener = Listener::new(listener, tls.clone());
        let websockets: Arc<dyn WebSockets> = Arc::new(self.service());
        let service = Health::new(self.service(), self.service.joined(), self.shutdown.clone());
        let serving = server::serve_with_websockets(listener, service, websockets, settings, self.shutdown.clone());
        match tls {
            Some(tls) => tokio::select! {
                () = serving => {}
                () = tls.watch_files() => {}
            },
            None => serving.await,
        }
        Ok(())
    }
}

fn app_namespace(namespace: &str, admission: Option<Duration>) -> AppNamespace {
    AppNamespace {
        namespace: namespace.into(),
        admission,
        presence: Arc::default(),
    }
}
