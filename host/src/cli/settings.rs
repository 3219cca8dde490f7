//! From the words of the configuration to those of each part. The parts know no configuration, and it knows no part.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{App, AppNode, ClientTransport, Config, Dispatch, Http, IoServer, Transport};
use crate::http::HttpSettings;
use crate::message::{KeyValue, Namespace, NodeId};
use crate::roles::app_node::Retries;
use crate::roles::io_node::{AppDoor, Encoding, IoNodeSettings};
use crate::transport::{self, MemorySettings, RedisSettings, TlsFiles};
use crate::wasm::{self, AppSettings, Compiler, EngineSettings, Grants, Limits};

pub(super) fn http(http: &Http) -> HttpSettings {
    HttpSettings {
        max_connections: http.max_connections,
        header_timeout: Duration::from_millis(http.header_timeout_ms),
        ..HttpSettings::default()
    }
}

pub(super) fn memory(transport: &Transport) -> MemorySettings {
    MemorySettings {
        partitions: transport.partitions,
        backlog: transport.backlog,
        client_backlog: transport.client_backlog,
        outbox: transport.outbox,
        max_component: transport.max_component.in_memory(),
    }
}

pub(super) fn redis(transport: &Transport) -> RedisSettings {
    RedisSettings {
        url: transport.url.clone(),
        tls: TlsFiles {
            ca: transport.tls_ca.clone(),
            cert: transport.tls_cert.clone(),
            key: transport.tls_key.clone(),
        },
        prefix: transport.prefix.clone(),
        partitions: transport.partitions,
        shards: transport.shards,
        backlog: transport.backlog,
        client_backlog: transport.client_backlog,
        outbox: transport.outbox,
        dead_letters: transport.dead_letters,
        lease: Duration::from_millis(transport.lease_ms),
        wait_replicas: transport.wait_replicas,
        wait_aof: transport.wait_aof,
        max_component: transport.max_component.in_memory(),
    }
}

pub(super) fn engine(config: &Config) -> EngineSettings {
    let memories = config.apps.iter().map(|app| app.limits.memory.in_memory());
    EngineSettings {
        max_instances: u32::try_from(config.app_node.max_instances).unwrap_or(u32::MAX),
        max_memory: memories.max().unwrap_or_default(),
        cache: cache(&config.app_node),
        compiler: compiler(),
    }
}

/// This executable, also when another was put in its place meanwhile.
pub(super) fn compiler() -> Compiler {
    let own = Path::new("/proc/self/exe");
    if own.exists() {
        return Compiler::Child(own.into());
    }
    std::env::current_exe().map_or(Compiler::Here, Compiler::Child)
}

/// The configured folder must be usable; the one that nobody asked for need not be.
fn cache(app_node: &AppNode) -> Option<PathBuf> {
    let folder = app_node.cache_folder()?;
    if app_node.cache_dir.is_none()
        && let Err(error) = wasm::check_cache(&folder)
    {
        tracing::warn!("compiled components are not kept: {error}");
        return None;
    }
    Some(folder)
}

/// An io-node that listens at `address`.
pub(super) fn io_node(config: &Config, address: SocketAddr) -> IoNodeSettings {
    let io_node = &config.io_node;
    let reached = advertised(io_node.advertise.as_deref(), address);
    IoNodeSettings {
        node: transport::IoNode {
            id: name(io_node.name.as_deref(), "io"),
            host: reached.host,
            port: reached.port,
        },
        apps: config
            .apps
            .iter()
            .map(|app| AppDoor {
                namespace: Namespace::from(app.namespace.as_str()),
                admission: None,
            })
            .collect(),
        path: io_node.path.clone(),
        ping_interval: Duration::from_millis(io_node.ping_interval_ms),
        ping_timeout: Duration::from_millis(io_node.ping_timeout_ms),
        connect_timeout: Duration::from_millis(io_node.connect_timeout_ms),
        upgrade_timeout: Duration::from_millis(io_node.upgrade_timeout_ms),
        max_payload: io_node.max_payload.in_memory(),
        send_buffer: io_node.send_buffer.0,
        refuse_after: Duration::from_millis(io_node.refuse_after_ms),
        polling: io_node.transports.contains(&ClientTransport::Polling),
        websocket: io_node.transports.contains(&ClientTransport::Websocket),
        encoding: Encoding::Json,
        socket_io_2: false,
        channels_per_client: 10_000,
        drain: Duration::from_millis(1_000),
    }
}

pub(super) fn app_node_name(app_node: &AppNode) -> NodeId {
    name(app_node.name.as_deref(), "app")
}

pub(super) fn retries(app_node: &AppNode) -> Retries {
    Retries {
        attempts: app_node.attempts,
        delay: Duration::from_millis(app_node.retry_delay_ms),
    }
}

/// An app on the app-node of this name.
pub(super) fn app(app: &App, node: &NodeId, key_value: Arc<dyn KeyValue>) -> AppSettings {
    AppSettings {
        namespace: app.namespace.as_str().into(),
        node: node.clone(),
        instances: app.instances,
        dispatch: match app.dispatch {
            Dispatch::RoundRobin => wasm::Dispatch::RoundRobin,
            Dispatch::Sticky => wasm::Dispatch::Sticky,
        },
        admission: false,
        limits: Limits {
            memory: app.limits.memory.in_memory(),
            time: Duration::from_millis(app.limits.time_ms),
            commands: app.limits.commands,
            bytes: app.limits.bytes.in_memory(),
            payload: app.limits.payload.in_memory(),
            snapshot: app.limits.snapshot.in_memory(),
        },
        grants: Grants {
            keyvalue: app.grants.keyvalue.clone(),
            http: app.grants.http.clone(),
        },
        config: app.config.clone(),
        key_value,
    }
}

/// What clients are told. One that listens everywhere has no one name, and one on loopback has several: to those who
/// reached the frontend, the name that they used for it.
pub(super) fn advertised(advertise: Option<&str>, address: SocketAddr) -> IoServer {
    if let Some(server) = advertise.and_then(|text| text.parse().ok()) {
        return server;
    }
    let anywhere = address.ip().is_unspecified() || address.ip().is_loopback();
    let host = if anywhere {
        String::new()
    } else {
        address.ip().to_string()
    };
    IoServer {
        host,
        port: address.port(),
    }
}

/// The configured name, or one that no other process has: of the role, the host and the process.
fn name(configured: Option<&str>, role: &str) -> NodeId {
    if let Some(name) = configured {
        return name.into();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host.or_else(|| std::env::var("HOSTNAME").ok());
    let host = host
        .as_deref()
        .map(str::trim)
        .filter(|host| !host.is_empty())
        .unwrap_or("node");
    format!("{role}-{host}-{}", std::process::id()).into()
}
