//! The configuration: one struct per section, nested here, read once at the start and passed down by part.
//!
//! Each key is a field with its type, default and doc text. `docs/configuration.md` and `plugnode.example.toml` are written
//! from these structs (see [`reference`]). A value comes from the environment (`PLUGNODE_SECTION__KEY`), else from the file,
//! else from a variable of socket.io-cluster, else it is the default. Errors name the key and where its value came from.

mod app;
mod build;
mod check;
mod environment;
mod frontend;
mod io_server;
mod io_server_url;
mod problem;
mod process;
#[cfg(test)]
mod reference;
mod shape;
mod transport;
mod value_sources;
mod webhook;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use app::App;
pub use build::Build;
pub use frontend::Frontend;
pub use io_server::IoServer;
pub use io_server_url::IoServerUrl;
pub use problem::in_words;
pub use process::{Admin, Log, LogFormat, LogLevel, Memory, Shutdown};
pub use transport::TransportSection;
pub use value_sources::ValueSources;
pub use webhook::Webhook;

pub use crate::api::{ApiKey, ApiSettings, Permission};
pub use crate::http::HttpSettings;
pub use crate::roles::app_node::AppNodeSettings;
pub use crate::roles::io_node::{Algorithm, Encoding, Field, IoNodeSettings, JwksLocation, TokenSettings};
pub use engine_io::ClientTransport;
pub use plugnode_runtime::{Dispatch, Grants, HandlerSettings, Limits};
pub use plugnode_settings::{Secret, Size};

/// All settings of a process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Config {
    /// Roles of this process; one process can have all three. `--role` on the command line overrides it. The transport `memory:`
    /// needs io-node and app-node in the same process.
    pub roles: Vec<Role>,
    /// The port that pages, Socket.IO and the health checks `/healthz` and `/readyz` share. A process that is only an app-node
    /// does not listen on it; its health checks are at `admin.listen`.
    pub http: HttpSettings,
    /// The role that serves pages and tells clients where the io-nodes are.
    pub frontend: Frontend,
    /// The role that holds the Socket.IO connections.
    pub io_node: IoNodeSettings,
    /// The role that runs the handlers.
    pub app_node: AppNodeSettings,
    /// What connects io-nodes and app-nodes: the memory of one process, or Redis.
    pub transport: TransportSection,
    /// How operators reach this process.
    pub admin: Admin,
    /// A way in for back offices and other systems, over HTTP.
    pub api: ApiSettings,
    /// How much memory this process may use.
    pub memory: Memory,
    /// How the process ends.
    pub shutdown: Shutdown,
    /// What the process writes to standard error.
    pub log: Log,
    /// How `plugnode dev`, `build`, `test` and `replay` make the handler in the folder of the file with another toolchain, when
    /// the folder holds neither a script nor a crate. `plugnode run` and `deploy` take the component as it is.
    pub build: Build,
    /// An app: a namespace bound to a component. Repeat the section for each namespace; in the environment, `0` is the first.
    #[serde(rename = "app")]
    pub apps: Vec<App>,
    /// Another program that app-nodes tell of events. Repeat the section for each; in the environment, `0` is the first. SIGHUP reads them
    /// again.
    #[serde(rename = "webhook")]
    pub webhooks: Vec<Webhook>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            roles: vec![Role::Frontend, Role::IoNode, Role::AppNode],
            http: HttpSettings::default(),
            frontend: Frontend::default(),
            io_node: IoNodeSettings::default(),
            app_node: AppNodeSettings::default(),
            transport: TransportSection::default(),
            admin: Admin::default(),
            api: ApiSettings::default(),
            memory: Memory::default(),
            shutdown: Shutdown::default(),
            log: Log::default(),
            build: Build::default(),
            apps: Vec::new(),
            webhooks: Vec::new(),
        }
    }
}

/// A role of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Serves pages and the list of io-nodes.
    Frontend,
    /// Holds the Socket.IO connections.
    IoNode,
    /// Runs the handlers.
    AppNode,
}

/// A configuration is invalid. One line per problem, with its key and the source of the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

impl Config {
    /// Reads a file, if one is given, and the environment, applies `overrides` (the command line), and validates the result. Relative paths
    /// in the file start at the file's folder.
    ///
    /// # Errors
    /// If the configuration is invalid; the error lists all problems.
    pub fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
        overrides: impl FnOnce(&mut Config),
    ) -> Result<Config, ConfigError> {
        Ok(Self::load_with_sources(file, variables, overrides)?.0)
    }

    /// Like [`load`](Self::load); also returns the source of each value.
    ///
    /// # Errors
    /// If the configuration is invalid; the error lists all problems.
    pub fn load_with_sources(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
        overrides: impl FnOnce(&mut Config),
    ) -> Result<(Config, ValueSources), ConfigError> {
        let (mut config, sources) = Self::read(file, variables)?;
        overrides(&mut config);
        config.check(&sources)?;
        Ok((config, sources))
    }

    /// Validates what the types of values do not say.
    ///
    /// # Errors
    /// If the configuration is invalid; the error lists all problems.
    pub fn check(&self, sources: &ValueSources) -> Result<(), ConfigError> {
        check::check(self, sources)
    }

    /// Reads a file, if one is given, and the environment, without validating what the types of values do not say.
    ///
    /// # Errors
    /// If a key is unknown, or a value has the wrong type.
    pub fn read(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Config, ValueSources), ConfigError> {
        let mut sources = ValueSources::of_file(file)?;
        let table = environment::overlay(sources.table()?, variables, &mut sources)?;
        let mut config: Config = table
            .try_into()
            .map_err(|error: toml::de::Error| ConfigError(vec![error.to_string()]))?;
        config.resolve(&sources);
        Ok((config, sources))
    }

    /// Whether this process has a role.
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    fn resolve(&mut self, sources: &ValueSources) {
        sources.resolve(&mut self.frontend.static_dir, &["frontend", "static-dir"]);
        if let Some(folder) = self
            .app_node
            .cache_dir
            .as_mut()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            sources.resolve(folder, &["app-node", "cache-dir"]);
        }
        if let Some(socket) = self
            .admin
            .socket
            .as_mut()
            .filter(|socket| !socket.as_os_str().is_empty())
        {
            sources.resolve(socket, &["admin", "socket"]);
        }
        let http = &mut self.http;
        for (key, file) in [("tls-cert", &mut http.tls_cert), ("tls-key", &mut http.tls_key)] {
            if let Some(file) = file {
                sources.resolve(file, &["http", key]);
            }
        }
        let tls = &mut self.transport.redis.tls;
        for (key, file) in [
            ("tls-ca", &mut tls.ca),
            ("tls-cert", &mut tls.cert),
            ("tls-key", &mut tls.key),
        ] {
            if let Some(file) = file {
                sources.resolve(file, &["transport", key]);
            }
        }
        for (key, file) in self.io_node.token.files_mut() {
            sources.resolve(file, &["io-node", "token", key]);
        }
        for (i, webhook) in self.webhooks.iter_mut().enumerate() {
            for (key, file) in [("ca", &mut webhook.ca), ("secret-file", &mut webhook.secret_file)] {
                if let Some(file) = file {
                    sources.resolve(file, &["webhook", &i.to_string(), key]);
                }
            }
        }
        for (i, key) in self.api.keys.iter_mut().enumerate() {
            if let Some(file) = &mut key.key_file {
                sources.resolve(file, &["api", "key", &i.to_string(), "key-file"]);
            }
        }
        for (i, app) in self.apps.iter_mut().enumerate() {
            if !app.component.as_os_str().is_empty() {
                sources.resolve(&mut app.component, &["app", &i.to_string(), "component"]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
