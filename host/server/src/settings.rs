//! Converts sections of the configuration to the settings structs of the crates and roles that use them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::api::{ApiSettings, KeyRing, KeySettings};
use crate::config::{self, App, AppNode, ClientTransport, Config, Http, IoServerUrl, Token, Transport};
use crate::http::{HttpSettings, Tls, TrustedProxies};
use crate::roles::app_node::Retries;
use crate::roles::io_node::{AppNamespace, IoNodeSettings, KeySource, PerAddress, TokenSettings};
use plugnode_message::namespaces::Namespaces;
use plugnode_message::{KeyValue, NodeId};
use plugnode_process::MemoryPressure;
use plugnode_runtime::{AppSettings, Compiler, EngineSettings};
use plugnode_transport::{Backlog, DeadLetterBudget, MemorySettings, OutboxBudget, TimerBudget};
use plugnode_transport_redis::{RedisSettings, TlsFiles};

/// Settings of a listener. Reads its certificate and key.
pub fn http(http: &Http) -> Result<HttpSettings> {
    let tls = match (&http.tls_cert, &http.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls::read(certificate, key)?),
        _ => None,
    };
    Ok(HttpSettings {
        max_connections: http.max_connections,
        max_connections_per_address: http.max_connections_per_address,
        header_timeout: http.header_timeout,
        write_timeout: http.write_timeout,
        tls,
        proxy_protocol: http.proxy_protocol,
        trusted_proxies: trusted_proxies(http),
    })
}

fn trusted_proxies(http: &Http) -> TrustedProxies {
    let networks = http.trusted_proxies.iter().filter_map(|text| config::network(text));
    TrustedProxies::new(networks.collect())
}

/// Settings of the transport in memory.
pub fn memory(transport: &Transport) -> MemorySettings {
    MemorySettings {
        partitions: transport.partitions,
        backlog: backlog(transport),
        dead_letters: dead_letters(transport),
        bucket_bytes: transport.bucket_bytes.in_memory(),
        timers: timers(transport),
        outbox: outbox(transport),
        max_component: transport.max_component.in_memory(),
    }
}

fn dead_letters(transport: &Transport) -> DeadLetterBudget {
    DeadLetterBudget {
        letters: transport.dead_letters,
        bytes: transport.dead_letters_bytes.in_memory(),
    }
}

fn timers(transport: &Transport) -> TimerBudget {
    TimerBudget {
        of_app: transport.timers,
        of_client: transport.client_timers,
    }
}

fn outbox(transport: &Transport) -> OutboxBudget {
    OutboxBudget {
        entries: transport.outbox,
        bytes: transport.outbox_bytes.in_memory(),
    }
}

fn backlog(transport: &Transport) -> Backlog {
    Backlog {
        events: transport.backlog,
        bytes: transport.backlog_bytes.in_memory(),
        client_events: transport.client_backlog,
        client_bytes: transport.client_backlog_bytes.in_memory(),
    }
}

/// Settings of the transport over Redis.
pub fn redis(transport: &Transport) -> RedisSettings {
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
        backlog: backlog(transport),
        outbox: outbox(transport),
        dead_letters: dead_letters(transport),
        bucket_bytes: transport.bucket_bytes.in_memory(),
        timers: timers(transport),
        lease: transport.lease,
        wait_replicas: transport.wait_replicas,
        wait_aof: transport.wait_aof,
        max_component: transport.max_component.in_memory(),
    }
}

/// Settings of the engine that runs components.
pub fn engine(config: &Config) -> EngineSettings {
    let memories = config.apps.iter().map(|app| app.limits.memory);
    EngineSettings {
        max_instances: u32::try_from(config.app_node.max_instances).unwrap_or(u32::MAX),
        max_memory: memories.max().unwrap_or_default(),
        cache: cache(&config.app_node),
        compiler: compiler(),
    }
}

/// Compiles in a child process of this executable. `/proc/self/exe` is the running one, even if its file was replaced.
pub fn compiler() -> Compiler {
    let own = Path::new("/proc/self/exe");
    if own.exists() {
        return Compiler::ChildProcess(own.into());
    }
    std::env::current_exe().map_or(Compiler::InProcess, Compiler::ChildProcess)
}

/// The folder for compiled components. An unusable default folder disables the cache; the engine refuses an unusable configured one.
fn cache(app_node: &AppNode) -> Option<PathBuf> {
    let folder = app_node.cache_folder()?;
    if app_node.cache_dir.is_none()
        && let Err(error) = plugnode_runtime::check_cache(&folder)
    {
        tracing::warn!("compiled components are not kept: {error}");
        return None;
    }
    Some(folder)
}

/// Settings of an io-node that listens at `address`.
pub fn io_node(config: &Config, address: SocketAddr) -> IoNodeSettings {
    let io_node = &config.io_node;
    let public = advertised_address(io_node.advertise.as_deref(), address);
    IoNodeSettings {
        node: plugnode_transport::IoNode {
            id: io_node_name(io_node),
            host: public.host,
            port: public.port,
            probes: probes(config, address),
            scheme: public.scheme.unwrap_or_else(|| scheme(config).to_owned()),
            path: public.path.unwrap_or_else(|| io_node.path.clone()),
        },
        apps: config.apps.iter().map(app_namespace).collect(),
        path: io_node.path.clone(),
        ping_interval: io_node.ping_interval,
        ping_timeout: io_node.ping_timeout,
        connect_timeout: io_node.connect_timeout,
        upgrade_timeout: io_node.upgrade_timeout,
        max_payload: io_node.max_payload.in_memory(),
        send_buffer: io_node.send_buffer.in_memory(),
        send_timeout: io_node.send_timeout,
        body_timeout: config.http.body_timeout,
        close_timeout: io_node.close_timeout,
        control_packets_per_second: io_node.control_packets_per_second,
        unfinished_bytes: io_node.unfinished_bytes.in_memory(),
        refuse_after: io_node.refuse_after,
        polling: io_node.transports.contains(&ClientTransport::Polling),
        websocket: io_node.transports.contains(&ClientTransport::Websocket),
        drain: drain(config),
        answering: (config.shutdown.deadline - drain(config)) / 2,
        cut_off: io_node.cut_off,
        encoding: io_node.parser,
        socket_io_2: io_node.socket_io_2,
        allowed_origins: io_node.allowed_origins.clone(),
        allowed_hosts: allowed_hosts(io_node, address),
        trusted_proxies: trusted_proxies(&config.http),
        per_address: PerAddress {
            clients: io_node.max_clients_per_address,
            connects_per_second: io_node.connects_per_second,
        },
        packets_per_second: io_node.packets_per_second,
        events_per_second: io_node.events_per_second,
        pressure: MemoryPressure::default(),
        channels_per_client: io_node.channels_per_client,
        namespaces_per_connection: io_node.namespaces_per_connection,
        attributes: io_node.attributes.clone().into_iter().collect(),
        handshake_delay: io_node.handshake_delay,
        token: tokens(io_node),
    }
}

/// Hosts that requests may name: `allowed-hosts`, and the hosts of `advertise` and `allowed-origins`. None: any host. Without
/// `allowed-hosts`, a node on a loopback address allows only the latter, and any other node allows all, because it cannot know its names.
fn allowed_hosts(io_node: &config::IoNode, address: SocketAddr) -> Option<Vec<String>> {
    let mut hosts = match &io_node.allowed_hosts {
        Some(hosts) => hosts.clone(),
        None if address.ip().is_loopback() => Vec::new(),
        None => return None,
    };
    let advertised = io_node
        .advertise
        .as_deref()
        .and_then(|text| IoServerUrl::parse(text).ok());
    hosts.extend(advertised.map(|server| server.host));
    let sites = io_node
        .allowed_origins
        .iter()
        .filter_map(|origin| origin.split_once("://"));
    hosts.extend(sites.map(|(_, host)| host.to_owned()));
    Some(hosts)
}

/// Time over which connections are closed: less than the deadline, by which they must also have ended.
fn drain(config: &Config) -> Duration {
    match config.io_node.drain {
        drain if drain < config.shutdown.deadline => drain,
        _ => config.shutdown.deadline / 2,
    }
}

/// URLs at which other nodes may reach `/readyz` of a node that listens at `address`.
fn probes(config: &Config, address: SocketAddr) -> Vec<String> {
    let scheme = scheme(config);
    let mut probes = vec![format!("{scheme}://{address}/readyz")];
    let advertised = config.io_node.advertise.as_deref();
    if let Some(advertised) = advertised.and_then(|text| IoServerUrl::parse(text).ok()) {
        let scheme = advertised.scheme.as_deref().unwrap_or(scheme);
        probes.push(format!("{scheme}://{advertised}/readyz"));
    }
    probes
}

/// The scheme of the listener.
fn scheme(config: &Config) -> &'static str {
    match config.http.tls_cert {
        Some(_) => "https",
        None => "http",
    }
}

fn app_namespace(app: &App) -> AppNamespace {
    AppNamespace {
        namespace: app.namespace.as_str().into(),
        admission: app.admission.then_some(app.admission_timeout),
    }
}

/// Settings of the token check. None: no key is configured, so tokens are not checked.
pub fn tokens(io_node: &config::IoNode) -> Option<TokenSettings> {
    io_node.token.has_key().then(|| token(&io_node.token))
}

fn token(token: &Token) -> TokenSettings {
    let secret = token
        .secret
        .as_ref()
        .map(|secret| KeySource::Secret(secret.expose().into()));
    let secret_file = token.secret_file.clone().map(KeySource::SecretFile);
    let public_key = token.public_key.clone().map(KeySource::PublicKey);
    let jwks = token.jwks.clone().map(KeySource::Jwks);
    TokenSettings {
        from: token.from.clone(),
        required: token.required,
        keys: [secret, secret_file, public_key, jwks].into_iter().flatten().collect(),
        algorithms: token.algorithms.clone(),
        issuers: token.issuers.clone(),
        audiences: token.audiences.clone(),
        leeway: token.leeway,
        expiry_required: token.expiry_required,
        enforce_expiry: token.enforce_expiry,
        claims: token.claims.clone(),
        ca: token.jwks_ca.clone(),
        refresh: token.jwks_refresh,
        pause: token.jwks_pause,
        timeout: token.jwks_timeout,
    }
}

/// The name of this process as an app-node.
pub fn app_node_name(app_node: &AppNode) -> NodeId {
    name(app_node.name.as_deref(), "app")
}

/// The name of this process as an io-node.
pub fn io_node_name(io_node: &config::IoNode) -> NodeId {
    name(io_node.name.as_deref(), "io")
}

/// The name of this process as a frontend.
pub fn frontend_name() -> NodeId {
    name(None, "frontend")
}

/// Attempts to handle an event, and the delay between them.
pub fn retries(app_node: &AppNode) -> Retries {
    Retries {
        attempts: app_node.attempts,
        delay: app_node.retry_delay,
    }
}

/// Settings of the server API. Reads its keys.
///
/// # Errors
/// If a key cannot be used.
pub fn api(config: &Config) -> Result<ApiSettings> {
    let api = &config.api;
    let mut namespaces = Namespaces::default();
    for app in &config.apps {
        namespaces.insert(&app.namespace, ()).map_err(anyhow::Error::msg)?;
    }
    Ok(ApiSettings {
        node: name(None, "api"),
        keys: api_keys(config)?,
        namespaces,
        max_body: api.max_body.in_memory(),
        max_batch: api.max_batch,
        max_calls: api.max_calls,
        body_timeout: config.http.body_timeout,
        accept_timeout: api.accept_timeout,
        commit_timeout: api.commit_timeout,
        http: HttpSettings {
            header_timeout: config.http.header_timeout,
            write_timeout: config.http.write_timeout,
            ..HttpSettings::default()
        },
    })
}

/// The keys of the server API.
///
/// # Errors
/// If a key cannot be read or used.
pub fn api_keys(config: &Config) -> Result<KeyRing> {
    let keys = config.api.keys.iter().map(|key| KeySettings {
        name: key.name.clone(),
        key: key.key.clone(),
        key_file: key.key_file.clone(),
        namespaces: key.namespaces.clone(),
        permissions: key.permissions.clone(),
        calls_per_second: key.calls_per_second,
        burst_seconds: key.burst_seconds,
    });
    KeyRing::read(&keys.collect::<Vec<_>>())
}

/// Settings of an app on the app-node `node`.
pub fn app(app: &App, node: &NodeId, key_value: Arc<dyn KeyValue>) -> AppSettings {
    AppSettings {
        admission: app.admission,
        failure_acks: app.failure_acks,
        namespace: app.namespace.as_str().into(),
        node: node.clone(),
        instances: app.instances,
        dispatch: app.dispatch,
        limits: app.limits.clone(),
        grants: app.grants.clone(),
        config: app.config.clone(),
        key_value,
    }
}

/// The address of the io-node that clients are given: `advertise`, else the listener's address. For a wildcard or loopback address the host
/// is empty: clients then use the host at which they reached the frontend.
fn advertised_address(advertise: Option<&str>, address: SocketAddr) -> IoServerUrl {
    if let Some(server) = advertise.and_then(|text| IoServerUrl::parse(text).ok()) {
        return server;
    }
    let anywhere = address.ip().is_unspecified() || address.ip().is_loopback();
    let host = if anywhere {
        String::new()
    } else {
        address.ip().to_string()
    };
    IoServerUrl::at(host, address.port())
}

/// The configured name, or a unique one made of role, host name and process id.
fn name(configured: Option<&str>, role: &str) -> NodeId {
    if let Some(name) = configured {
        return name.into();
    }
    format!("{role}-{}-{}", host_name(), std::process::id()).into()
}

/// The host name of this machine, or `node` if unknown.
pub fn host_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host.or_else(|| std::env::var("HOSTNAME").ok());
    let host = host.as_deref().map(str::trim).filter(|host| !host.is_empty());
    host.unwrap_or("node").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_node_allows_configured_hosts_only() {
        let hosts = |io_node: &config::IoNode, address: &str| allowed_hosts(io_node, address.parse().unwrap());
        let mut io_node = config::IoNode::default();
        assert_eq!(hosts(&io_node, "0.0.0.0:8080"), None);
        assert_eq!(hosts(&io_node, "127.0.0.1:8080"), Some(Vec::new()));
        io_node.advertise = Some("io.example:80".into());
        io_node.allowed_origins = vec!["*".into(), "https://site.example".into()];
        let known = ["io.example", "site.example"].map(String::from);
        assert_eq!(hosts(&io_node, "[::1]:8080"), Some(known.to_vec()));
        io_node.allowed_hosts = Some(vec!["a.example".into()]);
        let all = ["a.example", "io.example", "site.example"].map(String::from);
        assert_eq!(hosts(&io_node, "0.0.0.0:8080"), Some(all.to_vec()));
    }

    #[test]
    fn wildcard_address_is_advertised_without_host() {
        let advertised = |advertise, listen: &str| {
            let IoServerUrl { host, port, .. } = advertised_address(advertise, listen.parse().unwrap());
            (host, port)
        };
        for listen in ["0.0.0.0:80", "[::]:80", "127.0.0.1:80"] {
            assert_eq!(advertised(None, listen), (String::new(), 80), "{listen}");
        }
        assert_eq!(advertised(None, "10.0.0.7:80"), ("10.0.0.7".into(), 80));
        assert_eq!(
            advertised(Some("chat.example:443"), "0.0.0.0:80"),
            ("chat.example".into(), 443)
        );
    }
}
