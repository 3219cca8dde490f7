//! An app-node in a program, with native handlers, components, or both.

use anyhow::{Context, Result};

use crate::config::{App, Config};
use crate::roles::app_node::{self, AppNodeSettings, AppNodeSetup, AppSource, NativeApp, Webhooks};
use plugnode_process::shutdown::Shutdown;
use plugnode_runtime::{Compiler, Engine, EngineSettings, Native};
use plugnode_transport::Transport;

/// A running app-node. It stops with the shutdown that it was started with.
pub struct AppNode {
    _running: app_node::AppNode,
}

/// Configures an app-node.
#[must_use = "it is started by `start`"]
pub struct AppNodeBuilder {
    transport: Transport,
    settings: AppNodeSettings,
    partitions: u16,
    components: Vec<App>,
    native: Vec<(App, Native)>,
}

impl AppNode {
    /// An app-node on this transport, with the defaults of `plugnode run`.
    pub fn builder(transport: impl Into<Transport>) -> AppNodeBuilder {
        let config = Config::default();
        AppNodeBuilder {
            transport: transport.into(),
            settings: config.app_node,
            partitions: config.transport.redis.common.partitions,
            components: Vec::new(),
            native: Vec::new(),
        }
    }
}

impl AppNodeBuilder {
    /// The settings of `[app-node]` in a configuration file.
    pub fn settings(self, settings: AppNodeSettings) -> Self {
        Self { settings, ..self }
    }

    /// The number of the transport's partitions, if it is not the default.
    pub fn partitions(self, partitions: u16) -> Self {
        Self { partitions, ..self }
    }

    /// Adds an app for this namespace, or pattern of namespaces, with the defaults of `[[app]]`: it has no key-value buckets, for
    /// example.
    ///
    /// [`Native`] decides how the handler is called: on threads of its own, or in place, where it must not block.
    pub fn native(self, namespace: &str, handler: Native) -> Self {
        let app = App {
            namespace: namespace.into(),
            ..App::default()
        };
        self.native_app(app, handler)
    }

    /// Adds an app with a native handler and the settings of `[[app]]` in a configuration file. Settings of components, such as
    /// file and memory limit, are ignored.
    pub fn native_app(mut self, app: App, handler: Native) -> Self {
        self.native.push((app, handler));
        self
    }

    /// Adds an app with a component and the settings of `[[app]]` in a configuration file. It can be replaced by `plugnode deploy`
    /// as usual. It is compiled in this process.
    pub fn component(mut self, app: App) -> Self {
        self.components.push(app);
        self
    }

    /// Starts the apps, joins the transport and begins to handle events.
    ///
    /// # Errors
    /// If a handler cannot be loaded or started, or the transport cannot be joined.
    pub async fn start(self, shutdown: &Shutdown) -> Result<AppNode> {
        let name = self.settings.node_name();
        let key_value = self.transport.key_value.clone();
        let mut apps = Vec::new();
        for app in &self.components {
            apps.push(AppSource {
                settings: app.settings(&name, key_value.clone()),
                file: app.component.display().to_string(),
                component: read_component(app).await,
            });
        }
        let native = self.native.iter().map(|(app, handler)| NativeApp {
            settings: app.settings(&name, key_value.clone()),
            handler: handler.clone(),
        });
        let app_node = AppNodeSetup {
            settings: self.settings.clone(),
            native: native.collect(),
            apps,
            webhooks: Webhooks::default(),
            partitions: self.partitions,
            name,
        };
        let config = Config {
            apps: self.components,
            app_node: self.settings,
            ..Config::default()
        };
        let engine = Engine::new(EngineSettings {
            // This executable is the program's own and has no verb `compile`.
            compiler: Compiler::InProcess,
            ..app_node::engine_settings(&config)
        });
        let engine = engine.context("cannot set up WebAssembly")?;
        let running = app_node::AppNode::start(app_node, engine, self.transport, shutdown).await;
        Ok(AppNode {
            _running: running.context("the app-node cannot start")?,
        })
    }
}

/// Reads the component of an app. The error is fatal only if the app has no release yet.
pub async fn read_component(app: &App) -> Result<bytes::Bytes, String> {
    let read = tokio::fs::read(&app.component).await;
    let reason = |error| format!("cannot read the component {}: {error}", app.component.display());
    read.map(bytes::Bytes::from).map_err(reason)
}
