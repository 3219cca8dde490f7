//! An app-node in a program, with handlers in native Rust, in components, or both.

use anyhow::{Context, Result};

use crate::config::{self, App, Config};
use crate::roles::app_node::{self, AppNodeSettings, AppSource, NativeApp};
use crate::settings;
use plugnode_process::shutdown::Shutdown;
use plugnode_runtime::{Compiler, Engine, EngineSettings, Native};
use plugnode_transport::Transport;

/// A running app-node. It ends with the shutdown that it was started with.
pub struct AppNode {
    _running: app_node::AppNode,
}

/// An app-node that is to be.
#[must_use = "it is started by `start`"]
pub struct AppNodeBuilder {
    transport: Transport,
    settings: config::AppNode,
    partitions: u16,
    components: Vec<App>,
    native: Vec<(App, Native)>,
}

impl AppNode {
    /// Begins an app-node that is to join this transport, with the defaults of `plugnode run`.
    pub fn builder(transport: impl Into<Transport>) -> AppNodeBuilder {
        let config = Config::default();
        AppNodeBuilder {
            transport: transport.into(),
            settings: config.app_node,
            partitions: config.transport.partitions,
            components: Vec::new(),
            native: Vec::new(),
        }
    }
}

impl AppNodeBuilder {
    /// The settings that `[app-node]` has in a configuration file.
    pub fn settings(self, settings: config::AppNode) -> Self {
        Self { settings, ..self }
    }

    /// The number of the transport's partitions, when it was made with another than the default.
    pub fn partitions(self, partitions: u16) -> Self {
        Self { partitions, ..self }
    }

    /// The app of this namespace, or of a pattern of namespaces, is this handler, with what `[[app]]` has by default: no
    /// key-value buckets, for one.
    ///
    /// Its [`Native`] says how it is called: on threads of its own, or in place, where it must not block.
    pub fn native(self, namespace: &str, handler: Native) -> Self {
        let app = App {
            namespace: namespace.into(),
            ..App::default()
        };
        self.native_app(app, handler)
    }

    /// The app of these settings is this handler. They are those of `[[app]]` in a configuration file; of what a component
    /// alone has, its file and its limit of memory, nothing is taken.
    pub fn native_app(mut self, app: App, handler: Native) -> Self {
        self.native.push((app, handler));
        self
    }

    /// The app of these settings is a component, as `[[app]]` in a configuration file says it. It can be replaced while it
    /// runs as ever. It is compiled in this process.
    pub fn component(mut self, app: App) -> Self {
        self.components.push(app);
        self
    }

    /// Starts the apps, joins the transport and begins to handle events.
    ///
    /// # Errors
    /// When a handler cannot be loaded or started, with the reason, and when the transport cannot be joined.
    pub async fn start(self, shutdown: &Shutdown) -> Result<AppNode> {
        let name = settings::app_node_name(&self.settings);
        let key_value = self.transport.key_value.clone();
        let mut apps = Vec::new();
        for app in &self.components {
            apps.push(AppSource {
                settings: settings::app(app, &name, key_value.clone()),
                file: app.component.display().to_string(),
                component: read_component(app).await,
            });
        }
        let native = self.native.iter().map(|(app, handler)| NativeApp {
            settings: settings::app(app, &name, key_value.clone()),
            handler: handler.clone(),
        });
        let app_node = AppNodeSettings {
            native: native.collect(),
            apps,
            retries: settings::retries(&self.settings),
            partitions: self.partitions,
            kept_releases: self.settings.kept_releases,
            name,
        };
        let config = Config {
            apps: self.components,
            app_node: self.settings,
            ..Config::default()
        };
        let engine = Engine::new(EngineSettings {
            // This executable is the program's own, and knows no verb that compiles.
            compiler: Compiler::InProcess,
            ..settings::engine(&config)
        });
        let engine = engine.context("cannot set WebAssembly up")?;
        let running = app_node::AppNode::start(app_node, engine, self.transport, shutdown).await;
        Ok(AppNode {
            _running: running.context("the app-node cannot start")?,
        })
    }
}

/// The component of an app. Where the app has a release already, it may do without.
pub async fn read_component(app: &App) -> Result<bytes::Bytes, String> {
    let read = tokio::fs::read(&app.component).await;
    let refused = |error| format!("cannot read the component {}: {error}", app.component.display());
    read.map(bytes::Bytes::from).map_err(refused)
}
