//! The configuration: plain structs, read once at the start and passed down by part.
//!
//! Each key is a field here, with its default; `plugnode.example.toml` explains them to whoever writes the file. A key
//! comes from the environment (`PLUGNODE_SECTION__KEY`), else from the file, else from one of the variables that
//! socket.io-cluster knew, else from the default. What is wrong is said with its key and the place it came from.

mod build;
mod check;
mod default;
mod environment;
mod field;
mod io_node;
mod io_server;
mod io_server_url;
mod place;
mod secret;
mod size;
mod token;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use build::Build;
pub use field::Field;
pub use io_node::{ClientTransport, IoNode, Parser};
pub use io_server::IoServer;
pub use io_server_url::IoServerUrl;
pub use place::Places;
pub use secret::Secret;
pub use size::Size;
pub use token::{Algorithm, Jwks, Token};

/// All settings of a process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Config {
    /// What this process does. Default: everything.
    pub roles: Vec<Role>,
    /// The port that pages, Socket.IO and health checks share.
    pub http: Http,
    /// Settings of the role frontend.
    pub frontend: Frontend,
    /// Settings of the role io-node.
    pub io_node: IoNode,
    /// Settings of the role app-node.
    pub app_node: AppNode,
    /// What joins io-nodes and app-nodes.
    pub transport: Transport,
    /// How operators reach the process.
    pub admin: Admin,
    /// How much memory it may have.
    pub memory: Memory,
    /// How the process ends.
    pub shutdown: Shutdown,
    /// What it writes to standard error.
    pub log: Log,
    /// How `plugnode dev`, `build` and `test` make the handler.
    pub build: Build,
    /// The apps, one a namespace.
    #[serde(rename = "app")]
    pub apps: Vec<App>,
}

/// One of the things that a process can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Serves pages and the list of io-nodes.
    Frontend,
    /// Holds the Socket.IO connections.
    IoNode,
    /// Runs the handlers.
    AppNode,
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Http {
    /// Address and port to listen on. Default: `0.0.0.0:8080`.
    pub listen: String,
    /// Connections held at once; who comes beyond it is told 503. Default: 10,000.
    pub max_connections: usize,
    /// Connections held at once from one address. Default: half of `max-connections`, and any number from private addresses.
    pub max_connections_per_address: Option<usize>,
    /// How long a client may take to send the headers of a request, and to begin the next one. Default: 10,000.
    pub header_timeout_ms: u64,
    /// How long it may take to send the body of one. Default: 10,000.
    pub body_timeout_ms: u64,
    /// How long it may take no byte of an answer. Default: 20,000.
    pub write_timeout_ms: u64,
    /// PEM file of certificates; with it and its key the port speaks TLS and nothing else. Default: none.
    pub tls_cert: Option<PathBuf>,
    /// PEM file of the certificate's private key. Default: none.
    pub tls_key: Option<PathBuf>,
    /// Networks of proxies whose `X-Forwarded-For` and `Forwarded` count. Default: none.
    pub trusted_proxies: Vec<String>,
    /// Whether connections begin with a header of the PROXY protocol. Default: false.
    pub proxy_protocol: bool,
}

/// A network such as `10.0.0.0/8`, or a single address.
pub fn network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse().ok().or_else(|| Some(text.parse::<IpAddr>().ok()?.into()))
}

/// `[frontend]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Frontend {
    /// The folder of pages. Default: `public`; when that is not there, no pages are served.
    pub static_dir: PathBuf,
    /// Where clients find the list of io-nodes as JavaScript; as JSON it is beside it. Default: `/config.js`.
    pub client_config_url: String,
    /// Address and port of the Flash policy server. Default: none.
    pub flash_policy_listen: Option<String>,
    /// Io-nodes to tell clients besides those that are running. Default: none.
    pub io_servers: Vec<IoServerUrl>,
}

/// `[app-node]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct AppNode {
    /// The name under which it joins. Default: made from the host's name and the process.
    pub name: Option<String>,
    /// Where compiled components are kept; empty keeps none. Default: `plugnode` in the user's cache folder.
    pub cache_dir: Option<PathBuf>,
    /// Instances of all apps together. Default: 256.
    pub max_instances: usize,
    /// How often an event is tried before it is put aside. Default: 3.
    pub attempts: u32,
    /// Pause before an event is tried again. Default: 100.
    pub retry_delay_ms: u64,
    /// Releases of an app that are remembered, and can be gone back to. Default: 10.
    pub kept_releases: usize,
}

/// `[transport]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Transport {
    /// Which transport. Default: `memory:`, which joins the roles of one process.
    pub url: String,
    /// What every key in Redis begins with. Default: `plugnode`.
    pub prefix: String,
    /// Partitions that clients are spread over. Default: 64.
    pub partitions: u16,
    /// Parts of Redis that the partitions are spread over. Default: 1.
    pub shards: u16,
    /// Events that may wait in one partition; beyond it clients are slowed. Default: 10,000.
    pub backlog: usize,
    /// Their bytes. Default: 64 MB.
    pub backlog_bytes: Size,
    /// How many of these may be of one client. Default: 256.
    pub client_backlog: usize,
    /// Bytes of these that may be of one client. Default: 4 MB.
    pub client_backlog_bytes: Size,
    /// What may wait for one io-node before handlers wait for it. Default: 100,000.
    pub outbox: usize,
    /// Its bytes. Default: 64 MB.
    pub outbox_bytes: Size,
    /// Dead letters of one app that a shard keeps. Default: 10,000.
    pub dead_letters: usize,
    /// Their bytes. Default: 64 MB.
    pub dead_letters_bytes: Size,
    /// Bytes of keys and values that one key-value bucket may have. Default: 256 MB.
    pub bucket_bytes: Size,
    /// Timers that one app may have. Default: 100,000.
    pub timers: usize,
    /// How many of these may be of one client. Default: 100.
    pub client_timers: usize,
    /// Largest component that can be deployed. Default: 64 MB.
    pub max_component: Size,
    /// How long a node that is not heard of keeps what it holds. Default: 3,000.
    pub lease_ms: u64,
    /// Replicas that must have a change before it counts. Default: 0.
    pub wait_replicas: u32,
    /// Whether a change counts only when it is on disk. Default: false.
    pub wait_aof: bool,
    /// Certificates to trust. Default: those that browsers trust.
    pub tls_ca: Option<PathBuf>,
    /// The certificate to show to Redis. Default: none.
    pub tls_cert: Option<PathBuf>,
    /// Its key. Default: none.
    pub tls_key: Option<PathBuf>,
}

/// `[admin]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Admin {
    /// Address and port of `/healthz`, `/readyz` and `/metrics`, apart from clients. Default: none.
    pub listen: Option<String>,
    /// Where verbs such as `plugnode deploy` reach a process on the transport `memory:`; empty is nowhere. Default: the port with
    /// `.sock` in `plugnode` in the user's runtime folder.
    pub socket: Option<PathBuf>,
}

/// `[memory]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Memory {
    /// Bytes that the process may have before it refuses new clients; 0 is any number. Default: 80 % of what the machine or its
    /// cgroup has.
    pub budget: Option<Size>,
}

/// `[shutdown]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Shutdown {
    /// How long clients are still taken after SIGTERM, while `/readyz` and the list of io-nodes tell that no more are wanted.
    /// Default: 2,000.
    pub lame_duck_ms: u64,
    /// How long work in hand may take to finish after that. Default: 10,000.
    pub deadline_ms: u64,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Log {
    /// Lines for people or for machines. Default: text.
    pub format: LogFormat,
    /// The least important lines that are written; `RUST_LOG` wins over it. Default: info.
    pub level: LogLevel,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How important a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// `[[app]]`: a namespace bound to a component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct App {
    /// The Socket.IO namespace, or a pattern of namespaces such as `/shop/{id}`. Default: `/`.
    pub namespace: String,
    /// The `.wasm` file. Must be given; over Redis it is read only while the app has no release.
    pub component: PathBuf,
    /// Whether the file is watched and deployed each time it changes. Default: false.
    pub watch: bool,
    /// Instances on each app-node, 1 to 64. Default: 4.
    pub instances: usize,
    /// How events are spread over the instances. Default: round-robin.
    pub dispatch: Dispatch,
    /// Whether the handler decides who may connect. Default: false.
    pub admission: bool,
    /// Time it has to decide, before the client is refused. Default: 5,000.
    pub admission_timeout_ms: u64,
    /// Whether the acknowledgement of an event that becomes a dead letter is answered with an error. Default: true.
    pub failure_acks: bool,
    /// What a handler may use.
    pub limits: Limits,
    /// What a handler may reach.
    pub grants: Grants,
    /// What a handler reads by `wasi:config`. Default: nothing.
    pub config: BTreeMap<String, String>,
}

/// How the events of an app are spread over its instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dispatch {
    /// Each event to the next instance in turn.
    RoundRobin,
    /// All events of a client to one instance.
    Sticky,
}

/// `limits` of an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Limits {
    /// Memory of one instance. Default: 64 MB.
    pub memory: Size,
    /// Time to handle one event. Default: 1,000.
    pub time_ms: u64,
    /// Commands that one event may have. Default: 10,000.
    pub commands: usize,
    /// Bytes of all commands and writes of one event. Default: 16 MB.
    pub bytes: Size,
    /// Bytes of one command's payload. Default: 4 MB.
    pub payload: Size,
    /// Binary values of one command's payload. Default: 10, as many as Socket.IO's own clients take.
    pub attachments: usize,
    /// Bytes of one value in a key-value bucket. Default: 1 MB.
    pub value: Size,
    /// Bytes of the state that an instance hands to the one that replaces it. Default: 16 MB.
    pub snapshot: Size,
}

/// `grants` of an app. Nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Grants {
    /// Hosts that it may send HTTP requests to.
    pub http: Vec<String>,
    /// Key-value buckets that it may open.
    pub keyvalue: Vec<String>,
}

/// A configuration that cannot be used: each problem with its key and the place it came from, one a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

impl Config {
    /// Reads a file, or none, and the variables of an environment; lets the caller put the command line over it; then
    /// checks all of it. Relative paths in the file are taken from the file's folder.
    pub fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
        overrides: impl FnOnce(&mut Config),
    ) -> Result<Config, ConfigError> {
        Ok(Self::load_with_places(file, variables, overrides)?.0)
    }

    /// The same, and where each value came from.
    pub fn load_with_places(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
        overrides: impl FnOnce(&mut Config),
    ) -> Result<(Config, Places), ConfigError> {
        let mut places = Places::of_file(file)?;
        let table = environment::overlay(places.table()?, variables, &mut places)?;
        let mut config: Config = table
            .try_into()
            .map_err(|error: toml::de::Error| ConfigError(vec![error.to_string()]))?;
        config.resolve(&places);
        overrides(&mut config);
        check::check(&config, &places)?;
        Ok((config, places))
    }

    /// Whether this process has a role.
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    fn resolve(&mut self, places: &Places) {
        places.resolve(&mut self.frontend.static_dir, &["frontend", "static-dir"]);
        if let Some(folder) = self
            .app_node
            .cache_dir
            .as_mut()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            places.resolve(folder, &["app-node", "cache-dir"]);
        }
        if let Some(socket) = self
            .admin
            .socket
            .as_mut()
            .filter(|socket| !socket.as_os_str().is_empty())
        {
            places.resolve(socket, &["admin", "socket"]);
        }
        let http = &mut self.http;
        for (key, file) in [("tls-cert", &mut http.tls_cert), ("tls-key", &mut http.tls_key)] {
            if let Some(file) = file {
                places.resolve(file, &["http", key]);
            }
        }
        let transport = &mut self.transport;
        for (key, file) in [
            ("tls-ca", &mut transport.tls_ca),
            ("tls-cert", &mut transport.tls_cert),
            ("tls-key", &mut transport.tls_key),
        ] {
            if let Some(file) = file {
                places.resolve(file, &["transport", key]);
            }
        }
        for (key, file) in self.io_node.token.files_mut() {
            places.resolve(file, &["io-node", "token", key]);
        }
        for (i, app) in self.apps.iter_mut().enumerate() {
            if !app.component.as_os_str().is_empty() {
                places.resolve(&mut app.component, &["app", &i.to_string(), "component"]);
            }
        }
    }
}

impl AppNode {
    /// The folder to keep compiled components in, if they are to be kept.
    pub fn cache_folder(&self) -> Option<PathBuf> {
        match &self.cache_dir {
            Some(folder) if folder.as_os_str().is_empty() => None,
            Some(folder) => Some(folder.clone()),
            None => user_cache_folder().map(|folder| folder.join("plugnode")),
        }
    }
}

fn user_cache_folder() -> Option<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))
}

#[cfg(test)]
mod tests;
