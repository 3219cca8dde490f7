//! The Redis of one URL: a single server, the master that Sentinels name, or a Cluster. It tracks what all links share: the
//! present outage, and which servers are masters.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use redis::ConnectionAddr;
use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

use crate::client::connection::Connection;
use crate::client::dialer::{CONNECT, Dialer};
use crate::client::fault::{FaultKind, RedisFault};
use crate::client::outage::Outages;
use crate::client::sentinel::Sentinels;
use crate::client::tls;
use crate::client::url::{Host, Location, Topology};
use crate::error::unusable;
use crate::settings::TlsFiles;
use plugnode_transport::{Reachability, Result};

/// The Redis of one URL. `Debug` and `Display` show no secrets.
pub(crate) struct Server {
    dialer: Dialer,
    outages: Outages,
    /// The masters as last seen; empty at first.
    masters: Mutex<String>,
    /// Number of changes of the masters.
    changes: AtomicU64,
    /// Background task that watches the masters.
    master_watch: OnceLock<AbortOnDropHandle<()>>,
}

impl Server {
    /// Parses a URL and reads the TLS files. Connects to nothing.
    pub(crate) fn new(url: &str, tls: &TlsFiles) -> Result<Self> {
        let location = Location::parse(url).map_err(|problem| unusable(format!("[transport] url: {problem}")))?;
        let certificates = match location.tls {
            true => Some(tls::certificates(tls)?),
            false => None,
        };
        if !location.tls && (tls.ca.is_some() || tls.cert.is_some() || tls.key.is_some()) {
            let problem =
                "[transport] tls-ca, tls-cert and tls-key are for a url with TLS: write rediss:// for redis://";
            return Err(unusable(problem));
        }
        Ok(Self {
            outages: Outages::new(location.to_string()),
            dialer: Dialer::new(location, certificates),
            masters: Mutex::default(),
            changes: AtomicU64::new(0),
            master_watch: OnceLock::new(),
        })
    }

    /// Duration and reason of the present outage; none if there is none.
    pub(crate) fn outage(&self) -> Option<(Duration, String)> {
        self.outages.lasting()
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.location().topology, Topology::Cluster(_))
    }

    pub(crate) fn location(&self) -> &Location {
        &self.dialer.location
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    pub(crate) fn outages(&self) -> &Outages {
        &self.outages
    }

    /// Whether the last fault proves that Redis itself is away, or it may be unreachable for this node alone.
    pub(crate) fn reachability(&self) -> Reachability {
        self.outages.reachability()
    }

    /// The local address of this machine's route to Redis, by which other nodes can probably reach this one.
    pub(crate) async fn local_ip(&self) -> IpAddr {
        let host = match &self.location().topology {
            Topology::Node(host) => Some(host),
            Topology::Sentinel { sentinels: hosts, .. } | Topology::Cluster(hosts) => hosts.first(),
            // All nodes are on this machine.
            Topology::Socket(_) => None,
        };
        let find = async {
            let host = host?;
            for any in ["0.0.0.0:0", "[::]:0"] {
                // Connecting a UDP socket sends nothing.
                let socket = UdpSocket::bind(any).await.ok()?;
                if socket.connect((host.name.as_str(), host.port)).await.is_ok() {
                    return Some(socket.local_addr().ok()?.ip());
                }
            }
            None
        };
        let found = tokio::time::timeout(CONNECT, find).await;
        found.ok().flatten().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// Number of changes of the masters. A connection made before a change may lead to a former master.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Connects and logs in, with this response timeout.
    pub(crate) async fn connect(&self, response: Duration) -> std::result::Result<Connection, RedisFault> {
        let (connection, _) = self.connect_as_of(response).await?;
        Ok(connection)
    }

    /// Connects like [`connect`](Self::connect). Also returns [`changes`](Self::changes) as of before the connection.
    pub(crate) async fn connect_as_of(&self, response: Duration) -> std::result::Result<(Connection, u64), RedisFault> {
        let change = self.changes();
        let node = match &self.location().topology {
            Topology::Cluster(hosts) => {
                let cluster = self.dialer.connect_cluster(hosts, response).await?;
                return Ok((Connection::Cluster(cluster, response), change));
            }
            Topology::Sentinel { .. } => {
                let master = self.find_master().await?;
                // Taken before connecting, so that a change meanwhile outdates this connection.
                let change = self.set_masters(&master);
                let node = self.dialer.connect_master(&master, response).await?;
                return Ok((Connection::Node(node), change));
            }
            Topology::Node(host) => {
                let address = self.dialer.address(host);
                self.dialer.connect_node(&address, response).await?
            }
            Topology::Socket(path) => {
                let address = ConnectionAddr::Unix(path.clone());
                self.dialer.connect_node(&address, response).await?
            }
        };
        Ok((Connection::Node(node), change))
    }

    /// The master that Sentinels name.
    pub(crate) async fn find_master(&self) -> std::result::Result<Host, RedisFault> {
        match &self.location().topology {
            Topology::Sentinel {
                sentinels,
                master,
                login,
            } => {
                let (hosts, master) = (sentinels, master.as_str());
                Sentinels { hosts, master, login }.find(&self.dialer).await
            }
            _ => Err(RedisFault::new(FaultKind::Sentinel, "there is none")),
        }
    }

    /// Keeps the task that watches the masters; starts it if there is none and the topology needs it.
    pub(crate) fn keep_master_watch(&self, start: impl FnOnce() -> AbortOnDropHandle<()>) {
        if matches!(
            self.location().topology,
            Topology::Sentinel { .. } | Topology::Cluster(_)
        ) {
            self.master_watch.get_or_init(start);
        }
    }

    /// Sets the masters. A change makes all links reconnect; links to a Cluster do so in the background. Returns the number
    /// of changes.
    pub(crate) fn set_masters(&self, masters: impl ToString) -> u64 {
        let masters = masters.to_string();
        let mut known = self.masters.lock().expect("nothing panics while it holds this lock");
        if *known != masters {
            let old = std::mem::replace(&mut *known, masters);
            if !old.is_empty() {
                self.changes.fetch_add(1, Ordering::AcqRel);
                tracing::warn!(server = %self, master = *known, before = old, "Redis has another master");
            }
        }
        self.changes()
    }

    /// Makes all links reconnect, because a connection made as of this change leads to a replica.
    pub(crate) fn invalidate(&self, change: u64) {
        let _ = self
            .changes
            .compare_exchange(change, change + 1, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.location().fmt(f)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.location())
    }
}
