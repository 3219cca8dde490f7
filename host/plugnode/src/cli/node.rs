//! One process of the cluster: binds its ports and starts the roles it has, each joined to the transport.

use std::future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{progress, transport};
use plugnode_process::MemoryPressure;
use plugnode_process::log_limiter;
use plugnode_process::metrics;
use plugnode_process::shutdown::Shutdown;
use plugnode_runtime::Engine;
use plugnode_server::admin;
use plugnode_server::config::{Config, Role};
use plugnode_server::embed;
use plugnode_server::http::{self, Check, Health, HttpSettings, Operations, Readiness, Tls, WebSockets};
use plugnode_server::roles::app_node::{AppNode, AppNodeSettings, AppSource};
use plugnode_server::roles::frontend::{Frontend, Overlay, serve_flash_policy};
use plugnode_server::roles::io_node::{self, IoNodeSettings, Renewal};
use plugnode_server::settings;
use plugnode_transport::Transport;

/// A running process.
pub(super) struct Node {
    /// Where it listens for pages and clients, if it has a role that does.
    pub(super) address: Option<SocketAddr>,
    /// What it shares with the other nodes.
    pub(super) transport: Transport,
    /// What of it can be renewed.
    pub(super) live: Live,
}

/// What of a process can be others while it runs.
#[derive(Clone, Default)]
pub(super) struct Live {
    pub(super) address: Option<SocketAddr>,
    pub(super) tls: Option<Tls>,
    pub(super) io_node: Option<Renewal>,
}

impl Node {
    /// Starts what the configuration says, with something to show over its pages. All of it ends with `shutdown`.
    pub(super) async fn start(config: &Config, shutdown: &Shutdown, overlay: Overlay) -> Result<Self> {
        Self::start_parts(config, shutdown, |transport| transport, Some(overlay)).await
    }

    /// The same over what is made of the configured transport, and with the pages as they are.
    pub(super) async fn start_over(
        config: &Config,
        shutdown: &Shutdown,
        over: impl FnOnce(Transport) -> Transport,
    ) -> Result<Self> {
        Self::start_parts(config, shutdown, over, None).await
    }

    async fn start_parts(
        config: &Config,
        shutdown: &Shutdown,
        over: impl FnOnce(Transport) -> Transport,
        overlay: Option<Overlay>,
    ) -> Result<Self> {
        // First what is most likely not to be had, and soon known.
        let port = match config.has(Role::Frontend) || config.has(Role::IoNode) {
            true => Some(Port::bind(config).await?),
            false => None,
        };
        let address = port.as_ref().map(|port| port.address);
        let operations = Operations::new(shutdown);
        if let Some(listen) = &config.admin.listen {
            let listener = http::bind(listen).await.context("[admin] listen")?;
            tracing::info!("health and metrics on http://{}", listener.local_addr()?);
            operations.serve_on(listener);
        }
        if let Some(listen) = config
            .frontend
            .flash_policy_listen
            .as_deref()
            .filter(|_| config.has(Role::Frontend))
        {
            let listener = http::bind(listen).await.context("[frontend] flash-policy-listen")?;
            shutdown.spawn(serve_flash_policy(listener, shutdown.clone()));
        }

        let pressure = MemoryPressure::watch(config.memory.budget.map(|budget| budget.0), shutdown);
        let transport = over(transport::open(config, shutdown).await?);
        if config.has(Role::AppNode) {
            start_app_node(config, transport.clone(), shutdown).await?;
        }
        if let Some(address) = address
            && config.has(Role::AppNode)
            && config.transport.url == "memory:"
        {
            serve_verbs(config, address, transport.clone(), shutdown)?;
        }
        let mut checks = vec![
            lease_check(&transport),
            transport_check(transport.clone()),
            memory_check(pressure.clone()),
        ];
        let mut live = Live::default();
        match port {
            Some(port) => checks.extend(
                port.serve(config, transport.clone(), pressure, shutdown, &mut live, overlay)
                    .await?,
            ),
            None => {
                tracing::info!(roles = ?config.roles, "started; it has no clients, and so does not listen at [http] listen")
            }
        }
        let ending = shutdown.clone();
        shutdown.spawn(async move {
            tokio::select! {
                () = ending.begun() => {}
                () = metrics::log_counter_changes() => {}
                () = log_limiter::log_summaries() => {}
            }
        });
        let asked = transport.clone();
        operations.tell_backlog(move || {
            let transport = asked.clone();
            async move { transport.nodes.backlog().await.ok() }
        });
        operations.started(checks);
        Ok(Self {
            address,
            transport,
            live,
        })
    }
}

/// The deadline of the process comes before.
const FOREVER: Duration = Duration::from_secs(86_400);

/// The port of pages and clients.
struct Port {
    listener: TcpListener,
    address: SocketAddr,
    http: HttpSettings,
}

impl Port {
    async fn bind(config: &Config) -> Result<Self> {
        let http = settings::http(&config.http).context("[http] tls-cert, tls-key")?;
        let listener = http::bind(&config.http.listen).await.context("[http] listen")?;
        let address = listener.local_addr()?;
        Ok(Self {
            listener,
            address,
            http,
        })
    }

    /// Serves what has its place there, and gives the checks of that.
    async fn serve(
        self,
        config: &Config,
        transport: Transport,
        pressure: MemoryPressure,
        shutdown: &Shutdown,
        live: &mut Live,
        overlay: Option<Overlay>,
    ) -> Result<Vec<Check>> {
        let Self {
            listener,
            address,
            http,
        } = self;
        let scheme = if http.tls.is_some() { "https" } else { "http" };
        live.address = Some(address);
        live.tls.clone_from(&http.tls);
        if let Some(tls) = http.tls.clone() {
            let ending = shutdown.clone();
            shutdown.spawn(async move {
                tokio::select! {
                    () = ending.begun() => {}
                    () = tls.keep_fresh() => {}
                }
            });
        }
        let (list, running) = watch::channel(Vec::new());
        let frontend = match config.has(Role::Frontend) {
            true => Frontend::with_overlay(&config.frontend, running, overlay),
            false => Frontend::absent(),
        };
        let mut checks = Vec::new();
        let ending = shutdown.clone();
        if config.has(Role::IoNode) {
            let io_node = IoNodeSettings {
                pressure,
                ..settings::io_node(config, address)
            };
            let service = io_node::start(io_node, transport.clone(), frontend, shutdown).await?;
            let joined = service.joined();
            live.io_node = Some(service.renewal());
            let ready = joined.clone();
            checks.push(Check::new("io-node", move || future::ready(verdict(ready().problem))));
            let io_node_ended = service.ended();
            let websockets: Arc<dyn WebSockets> = Arc::new(service.clone());
            let service = Health::new(service, joined, shutdown.clone());
            // Clients that poll come by new connections until their last answer is read.
            let port = Shutdown::new();
            let serving = port.clone();
            port.spawn(async move {
                http::serve_with_websockets(listener, service, websockets, &http, serving).await;
            });
            shutdown.spawn(async move {
                io_node_ended.await;
                port.begin();
                port.drained(FOREVER).await;
            });
        } else {
            let standing = transport.nodes.standing();
            let ready = move || Readiness {
                problem: standing.problem().or_else(|| pressure.problem()),
                renewed: None,
            };
            let service = Health::new(frontend, Arc::new(ready), shutdown.clone());
            shutdown.spawn(async move { http::serve(listener, service, &http, ending).await });
        }
        if config.has(Role::Frontend) {
            shutdown.spawn(embed::keep_io_list(list, transport, shutdown.clone()));
        }
        tracing::info!(roles = ?config.roles, "listening on {scheme}://{address}");
        Ok(checks)
    }
}

/// Whether the places of this process in the cluster are renewed in time.
fn lease_check(transport: &Transport) -> Check {
    let standing = transport.nodes.standing();
    Check::new("lease", move || future::ready(verdict(standing.problem())))
}

/// Whether the transport answers: it is asked for the io-nodes that run.
fn transport_check(transport: Transport) -> Check {
    Check::new("transport", move || {
        let transport = transport.clone();
        async move {
            let asked = transport.nodes.io_nodes().await;
            asked.map(drop).map_err(|error| error.to_string())
        }
    })
}

/// Whether there is memory for new clients.
fn memory_check(pressure: MemoryPressure) -> Check {
    Check::new("memory", move || future::ready(verdict(pressure.problem())))
}

fn verdict(problem: Option<String>) -> std::result::Result<(), String> {
    problem.map_or(Ok(()), Err)
}

/// Lets verbs of other processes reach the transport. Without it nothing is missing but them.
fn serve_verbs(config: &Config, address: SocketAddr, transport: Transport, shutdown: &Shutdown) -> Result<()> {
    let configured = config.admin.socket.as_deref();
    let Some(path) = admin::path(configured, address.port()) else {
        return Ok(());
    };
    match admin::Socket::bind(&path) {
        Ok(socket) => {
            let serving = socket.serve(
                transport.operations(),
                config.transport.max_component.in_memory(),
                shutdown.clone(),
            );
            shutdown.spawn(serving);
        }
        Err(error) if configured.is_some() => return Err(error.context("[admin] socket")),
        Err(error) => {
            tracing::warn!("plugnode deploy, rollback, status, releases and dead cannot reach this process: {error:#}")
        }
    }
    Ok(())
}

async fn start_app_node(config: &Config, transport: Transport, shutdown: &Shutdown) -> Result<()> {
    let name = settings::app_node_name(&config.app_node);
    let mut apps = Vec::new();
    for app in &config.apps {
        apps.push(AppSource {
            settings: settings::app(app, &name, transport.key_value.clone()),
            file: app.component.display().to_string(),
            component: embed::read_component(app).await,
        });
    }
    let app_node = AppNodeSettings {
        name,
        apps,
        native: Vec::new(),
        retries: settings::retries(&config.app_node),
        partitions: config.transport.partitions,
        kept_releases: config.app_node.kept_releases,
    };
    let engine = Engine::new(settings::engine(config)).context("cannot set WebAssembly up")?;
    let say = |line: &str| tracing::info!("{line}");
    let start = AppNode::start(app_node, engine, transport, shutdown);
    let started = progress::during(|| "compiling".into(), say, start).await;
    started.map(drop).context("the app-node cannot start")
}
