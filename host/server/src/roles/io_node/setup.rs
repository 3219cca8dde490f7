//! What an io-node is started with: its settings, and what comes from the rest of the process.

use std::net::SocketAddr;
use std::time::Duration;

use plugnode_process::MemoryPressure;
use plugnode_socket_io::AppNamespace;

use super::settings::IoNodeSettings;
use crate::config::{App, Config, IoServerUrl};
use crate::http::TrustedProxies;

/// What an io-node is started with.
#[derive(Debug, Clone)]
pub struct IoNodeSetup {
    /// Its settings, adjusted to the rest of the configuration: `drain` ends before the process does, and the engine has the
    /// time-out of bodies.
    pub settings: IoNodeSettings,
    /// Its name in the cluster, and where clients reach it.
    pub node: plugnode_transport::IoNode,
    /// The namespaces of apps. Clients are refused in any other namespace.
    pub apps: Vec<AppNamespace>,
    /// Hosts that requests may name besides addresses and names of one word. None allows any host.
    pub allowed_hosts: Option<Vec<String>>,
    /// Proxies that are trusted to name the address of their client.
    pub trusted_proxies: TrustedProxies,
    /// The memory of this process. New sessions are refused when none is left.
    pub pressure: MemoryPressure,
    /// How long it may take, after `drain`, to answer what clients have sent.
    pub answering: Duration,
}

impl IoNodeSetup {
    /// The setup of the configured io-node, which listens at `address`.
    pub fn new(config: &Config, address: SocketAddr) -> Self {
        let mut settings = config.io_node.clone();
        settings.drain = drain(config);
        settings.engine.body_timeout = config.http.body_timeout;
        let public = advertised_address(settings.advertise.as_deref(), address);
        Self {
            node: plugnode_transport::IoNode {
                id: settings.node_name(),
                host: public.host,
                port: public.port,
                probes: probes(config, address),
                scheme: public.scheme.unwrap_or_else(|| config.http.scheme().to_owned()),
                path: public.path.unwrap_or_else(|| settings.path.clone()),
            },
            apps: config.apps.iter().map(app_namespace).collect(),
            allowed_hosts: allowed_hosts(&settings, address),
            trusted_proxies: config.http.trusted_proxies.clone(),
            pressure: MemoryPressure::default(),
            answering: (config.shutdown.deadline - settings.drain) / 2,
            settings,
        }
    }
}

/// Hosts that requests may name: `allowed-hosts`, and the hosts of `advertise` and `allowed-origins`. None: any host. Without
/// `allowed-hosts`, a node on a loopback address allows only the latter, and any other node allows all, because it cannot know its names.
fn allowed_hosts(io_node: &IoNodeSettings, address: SocketAddr) -> Option<Vec<String>> {
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
    let scheme = config.http.scheme();
    let mut probes = vec![format!("{scheme}://{address}/readyz")];
    let advertised = config.io_node.advertise.as_deref();
    if let Some(advertised) = advertised.and_then(|text| IoServerUrl::parse(text).ok()) {
        let scheme = advertised.scheme.as_deref().unwrap_or(scheme);
        probes.push(format!("{scheme}://{advertised}/readyz"));
    }
    probes
}

fn app_namespace(app: &App) -> AppNamespace {
    AppNamespace {
        namespace: app.namespace.as_str().into(),
        admission: app.handler.admission.then_some(app.admission_timeout),
        presence: app.handler.presence.channels.clone().into(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_node_allows_configured_hosts_only() {
        let hosts = |io_node: &IoNodeSettings, address: &str| allowed_hosts(io_node, address.parse().unwrap());
        let mut io_node = IoNodeSettings::default();
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
