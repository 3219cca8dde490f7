//! A process of the cluster: binds its ports, opens the transport, and starts its roles.

use std::future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::terminal;
use plugnode_process::MemoryPressure;
use plugnode_process::log_limiter;
use plugnode_process::metrics;
use plugnode_process::shutdown::Shutdown;
use plugnode_runtime::Engine;
use plugnode_server::admin;
use plugnode_server::api::{Api, ApiSetup};
use plugnode_server::config::{Config, Role, Webhook};
use plugnode_server::embed;
use plugnode_server::http::{self, Check, Health, HttpSettings, Listener, Monitoring, Readiness, Tls, WebSockets};
use plugnode_server::roles::app_node::{AppNode, AppNodeSetup, AppSource, engine_settings};
use plugnode_server::roles::frontend::{Frontend, Overlay, serve_flash_policy};
use plugnode_server::roles::io_node::{self, EmitterBridge, IoNodeSetup, SettingsUpdater};
use plugnode_transport::{Memory, Transport};
use plugnode_transport_redis::{Redis, Subscription, SubscriptionBudget};

/// A running process.
pub(super) struct Node {
    /// Address of `[http] listen`; none for an app-node alone.
    pub(super) address: Option<SocketAddr>,
    /// The transport that it shares with the other nodes.
    pub(super) transport: Transport,
    /// Parts that SIGHUP updates.
    pub(super) reloadable: Reloadable,
}

/// Parts of a process that can be updated while it runs.
#[derive(Clone, Default)]
pub(super) struct Reloadable {
    pub(super) tls: Option<Tls>,
    pub(super) io_node: Option<SettingsUpdater>,
    pub(super) app_node: Option<AppNode>,
    pub(super) api: Option<Api>,
}

impl Node {
    /// Starts the configured roles, with an overlay on the pages. They end with `shutdown`.
    pub(super) async fn start_with_overlay(config: &Config, shutdown: &Shutdown, overlay: Overlay) -> Result<Self> {
        Self::start_parts(config, shutdown, |transport| transport, Some(overlay)).await
    }

    /// Starts the configured roles, with the configured transport wrapped by `over`. They end with `shutdown`.
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
        // First the most likely failure, which is found at once.
        let port = match config.has(Role::Frontend) || config.has(Role::IoNode) {
            true => Some(Port::bind(config).await?),
            false => None,
        };
        let address = port.as_ref().map(|port| port.address);
        let monitoring = Monitoring::new(shutdown);
        if let Some(listen) = &config.admin.listen {
            let listener = http::bind(listen).await.context("[admin] listen")?;
            tracing::info!("health and metrics on http://{}", listener.local_addr()?);
            monitoring.serve_on(listener);
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

        let api = match &config.api.listen {
            Some(listen) => Some((
                http::bind(listen).await.context("[api] listen")?,
                ApiSetup::read(
                    &config.api,
                    &config.http,
                    config
                        .apps
                        .iter()
                        .map(|app| (app.namespace.as_str(), &app.handler.presence.channels[..])),
                )?,
            )),
            None => None,
        };

        let pressure = MemoryPressure::watch(config.memory.budget.map(|budget| budget.0), shutdown);
        let transport = over(open_transport(config, shutdown).await?);
        let mut reloadable = Reloadable::default();
        if config.has(Role::AppNode) {
            reloadable.app_node = Some(start_app_node(config, transport.clone(), shutdown).await?);
        }
        if let Some(address) = address
            && config.has(Role::AppNode)
            && config.transport.is_memory()
        {
            serve_commands(config, address, transport.clone(), shutdown)?;
        }
        let mut checks = vec![
            lease_check(&transport),
            transport_check(transport.clone()),
            memory_check(pressure.clone()),
        ];
        if let Some((listener, setup)) = api {
            tracing::info!("server API on http://{}", listener.local_addr()?);
            reloadable.api = Some(Api::start(listener, setup, transport.clone(), shutdown));
        }
        match port {
            Some(port) => checks.extend(
                port.serve(config, transport.clone(), pressure, shutdown, &mut reloadable, overlay)
                    .await?,
            ),
            None => {
                tracing::info!(roles = ?config.roles, "started; it has no clients, and does not listen at [http] listen")
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
        monitoring.set_backlog(move || {
            let transport = asked.clone();
            async move { transport.nodes.backlog().await.ok() }
        });
        monitoring.started(checks);
        Ok(Self {
            address,
            transport,
            reloadable,
        })
    }
}

/// A limit that the shutdown deadline of the process precedes.
const NO_LIMIT: Duration = Duration::from_secs(86_400);

/// The HTTP port, for pages and clients.
struct Port {
    listener: TcpListener,
    address: SocketAddr,
    http: HttpSettings,
    tls: Option<Tls>,
}

impl Port {
    async fn bind(config: &Config) -> Result<Self> {
        let tls = config.http.read_tls()?;
        let listener = http::bind(&config.http.listen).await.context("[http] listen")?;
        let address = listener.local_addr()?;
        Ok(Self {
            listener,
            address,
            http: config.http.clone(),
            tls,
        })
    }

    /// Serves the frontend and the io-node, as far as they are configured. Returns their health checks.
    async fn serve(
        self,
        config: &Config,
        transport: Transport,
        pressure: MemoryPressure,
        shutdown: &Shutdown,
        reloadable: &mut Reloadable,
        overlay: Option<Overlay>,
    ) -> Result<Vec<Check>> {
        let Self {
            listener,
            address,
            http,
            tls,
        } = self;
        let scheme = http.scheme();
        let listener = Listener::new(listener, tls.clone());
        reloadable.tls.clone_from(&tls);
        if let Some(tls) = tls {
            let ending = shutdown.clone();
            shutdown.spawn(async move {
                tokio::select! {
                    () = ending.begun() => {}
                    () = tls.watch_files() => {}
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
            let io_node = IoNodeSetup {
                pressure,
                ..IoNodeSetup::new(config, address)
            };
            let service = io_node::start(io_node, transport.clone(), frontend, shutdown).await?;
            if let Some(prefix) = &config.transport.emitter {
                receive_from_emitters(config, service.emitter_bridge(prefix), shutdown)?;
            }
            let joined = service.joined();
            reloadable.io_node = Some(service.settings_updater());
            let ready = joined.clone();
            checks.push(Check::new("io-node", move || future::ready(verdict(ready().problem))));
            let io_node_ended = service.ended();
            let websockets: Arc<dyn WebSockets> = Arc::new(service.clone());
            let service = Health::new(service, joined, shutdown.clone());
            // Polling clients open new connections until they have read their last response: the port closes after the io-node.
            let port = Shutdown::new();
            let serving = port.clone();
            port.spawn(async move {
                http::serve_with_websockets(listener, service, websockets, &http, serving).await;
            });
            shutdown.spawn(async move {
                io_node_ended.await;
                port.begin();
                port.drained(NO_LIMIT).await;
            });
        } else {
            let lease_health = transport.nodes.lease_health();
            let ready = move || Readiness {
                problem: lease_health.problem().or_else(|| pressure.problem()),
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

/// Checks that the leases of this process are renewed in time.
fn lease_check(transport: &Transport) -> Check {
    let lease_health = transport.nodes.lease_health();
    Check::new("lease", move || future::ready(verdict(lease_health.problem())))
}

/// Checks that the transport answers, by listing the io-nodes.
fn transport_check(transport: Transport) -> Check {
    Check::new("transport", move || {
        let transport = transport.clone();
        async move {
            let asked = transport.nodes.io_nodes().await;
            asked.map(drop).map_err(|error| error.to_string())
        }
    })
}

/// Checks that there is memory for new clients.
fn memory_check(pressure: MemoryPressure) -> Check {
    Check::new("memory", move || future::ready(verdict(pressure.problem())))
}

fn verdict(problem: Option<String>) -> std::result::Result<(), String> {
    problem.map_or(Ok(()), Err)
}

/// Serves the admin socket, over which other commands reach the memory transport. Unless it is configured, a failure is only logged.
fn serve_commands(config: &Config, address: SocketAddr, transport: Transport, shutdown: &Shutdown) -> Result<()> {
    let configured = config.admin.socket.as_deref();
    let Some(path) = admin::path(configured, address.port()) else {
        return Ok(());
    };
    match admin::AdminListener::bind(&path) {
        Ok(socket) => {
            let serving = socket.serve(
                transport.operations(),
                config.transport.redis.common.max_component,
                shutdown.clone(),
            );
            shutdown.spawn(serving);
        }
        Err(error) if configured.is_some() => return Err(error.context("[admin] socket")),
        Err(error) => {
            tracing::warn!(
                "plugnode deploy, rollback, status, releases and dead cannot reach this process; set [admin] socket to a path that it can create: {error:#}"
            )
        }
    }
    Ok(())
}

/// Opens the configured transport. Its background work ends after its members have left, and `shutdown` waits for it.
async fn open_transport(config: &Config, shutdown: &Shutdown) -> Result<Transport> {
    if config.transport.is_memory() {
        return Ok(Memory::new(config.transport.redis.common.clone()).into());
    }
    let redis = Redis::connect(&config.transport.url, config.transport.redis.clone(), shutdown).await;
    Ok(redis.context("[transport] url")?.into())
}

/// Messages of emitters that may wait to be applied, and bytes of one of them.
const EMITTERS: SubscriptionBudget = SubscriptionBudget {
    messages: 10_000,
    bytes: 32_000_000,
    message: 4_000_000,
};

/// Applies what emitters publish until the process ends.
fn receive_from_emitters(config: &Config, bridge: EmitterBridge, shutdown: &Shutdown) -> Result<()> {
    let patterns = bridge.patterns().into();
    let subscription = Subscription::new(&config.transport.url, &config.transport.redis.tls, patterns, EMITTERS);
    let subscription = subscription.context("[transport] emitter")?;
    let ending = shutdown.clone();
    shutdown.spawn(async move {
        tokio::select! {
            () = ending.begun() => {}
            () = subscription.run(|published| bridge.apply(&published.channel, &published.message)) => {}
        }
    });
    Ok(())
}

async fn start_app_node(config: &Config, transport: Transport, shutdown: &Shutdown) -> Result<AppNode> {
    let name = config.app_node.node_name();
    let mut apps = Vec::new();
    for app in &config.apps {
        apps.push(AppSource {
            settings: app.settings(&name, transport.key_value.clone()),
            file: app.component.display().to_string(),
            component: embed::read_component(app).await,
        });
    }
    let app_node = AppNodeSetup {
        settings: config.app_node.clone(),
        webhooks: Webhook::read_all(&config.webhooks)?,
        name,
        apps,
        native: Vec::new(),
        partitions: config.transport.redis.common.partitions,
    };
    let engine = Engine::new(engine_settings(config)).context("cannot start the WebAssembly engine")?;
    let say = |line: &str| tracing::info!("{line}");
    let start = AppNode::start(app_node, engine, transport, shutdown);
    let started = terminal::during(|| "compiling".into(), say, start).await;
    started.context("the app-node cannot start")
}
