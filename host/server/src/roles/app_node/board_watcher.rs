//! Watches the board of releases, and posts it again if the transport lost it.
//!
//! The releases in use outlive the transport's data: each app-node knows the board, and caches the components that its apps use.
//! After a loss the nodes agree by compare-and-swap, as on any change of the board: the first to post the board that it knew
//! wins, and each node puts the components that it has.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{debug, error, info, warn};

use plugnode_message::Namespace;
use plugnode_process::shutdown::Shutdown;
use plugnode_release::{Board, Digest, Release};
use plugnode_runtime::Engine;
use plugnode_transport::Transport;

/// Pause after an error of the transport.
const ERROR_PAUSE: Duration = Duration::from_secs(1);
/// If a board does not descend from the known one: how long the heartbeats have to detect a loss of data,
const LOSS_TIMEOUT: Duration = Duration::from_secs(1);
/// and how often that is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long other nodes have to put the components that this one lacks, before these are reported as lost.
const COMPONENTS_TIMEOUT: Duration = Duration::from_secs(10);

/// Keeps the node's copy of the board up to date.
pub(super) struct BoardWatcher {
    board: watch::Sender<Arc<Board>>,
    version: u64,
    /// Number of data losses of the transport when this board was read.
    losses: u64,
    /// The apps of this node that have releases.
    apps: BTreeSet<Namespace>,
    transport: Transport,
    engine: Engine,
    shutdown: Shutdown,
}

impl BoardWatcher {
    /// `board` holds the known board, which has this version.
    pub(super) fn new(
        board: watch::Sender<Arc<Board>>,
        version: u64,
        apps: BTreeSet<Namespace>,
        transport: Transport,
        engine: Engine,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            board,
            version,
            losses: transport.nodes.data_losses().unwrap_or_default(),
            apps,
            transport,
            engine,
            shutdown,
        }
    }

    /// Watches the board until shutdown begins.
    pub(super) async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            () = shutdown.begun() => {}
            () = self.watch() => {}
        }
    }

    async fn watch(&mut self) {
        self.cache_components();
        loop {
            match self.transport.releases.board_after(self.version).await {
                Ok((version, board)) => self.update(version, board).await,
                Err(error) => {
                    warn!(%error, "cannot read the board of releases; the loaded releases stay in use");
                    sleep(ERROR_PAUSE).await;
                }
            }
        }
    }

    /// Takes over a board that was read. If it lacks releases because data was lost, posts these again instead; the result is
    /// read next.
    async fn update(&mut self, version: u64, board: Board) {
        let known = self.board.borrow().clone();
        if let Some(recovered) = board.recovered(&known)
            && (self.lacks_app(&board) || self.has_lost_data(version, board.descends_from(&known)).await)
        {
            return self.repost(version, recovered).await;
        }
        self.version = version;
        self.losses = self.transport.nodes.data_losses().unwrap_or_default();
        if board == *known {
            // Another node has posted it again. It may lack some of the components.
            self.put_components(&board).await;
        }
        self.board.send_replace(Arc::new(board));
        self.cache_components();
    }

    /// Whether the board lacks an app that this node runs: it may have been removed while the node was starting.
    fn lacks_app(&self, board: &Board) -> bool {
        self.apps.iter().any(|app| !board.apps.contains_key(app))
    }

    /// Whether the transport lost data before the board of this version. Without a loss, versions only grow. A board that descends
    /// from the known one is checked once, without waiting: each step of a rollout makes one.
    async fn has_lost_data(&mut self, version: u64, is_descendant: bool) -> bool {
        let deadline = Instant::now() + if is_descendant { Duration::ZERO } else { LOSS_TIMEOUT };
        while version > self.version {
            let losses = self.transport.nodes.data_losses().unwrap_or_default();
            if losses != self.losses {
                self.losses = losses;
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            sleep(POLL_INTERVAL).await;
        }
        true
    }

    async fn repost(&mut self, version: u64, board: Board) {
        // Components first: a node that reads a release on the board expects to find its component.
        let put = self.put_components(&board).await;
        match self.transport.releases.post_board(version, &board).await {
            Ok(true) => {
                info!("the transport had lost the board of releases; the releases in use are posted again");
                let (transport, lacking) = (self.transport.clone(), lacking(&board, &put));
                self.shutdown
                    .spawn(log_lost_components(transport, lacking, self.shutdown.clone()));
                self.version = version;
            }
            Ok(false) => debug!("another node has posted the board of releases"),
            Err(error) => {
                warn!(%error, "cannot post the releases in use again; trying again");
                sleep(ERROR_PAUSE).await;
            }
        }
    }

    /// Puts each component of the board that this node has. Returns their digests.
    async fn put_components(&self, board: &Board) -> BTreeSet<Digest> {
        let mut put = BTreeSet::new();
        for digest in board.digests() {
            if put.contains(digest) {
                continue;
            }
            let Some(bytes) = self.engine.cached_bytes(digest).await else {
                continue;
            };
            match self.transport.releases.put_component(bytes).await {
                Ok(digest) => _ = put.insert(digest),
                Err(error) => warn!(component = digest.short(), %error, "cannot put a component into the store again"),
            }
        }
        put
    }

    /// Caches the components that this node's apps need, in case the transport loses them.
    fn cache_components(&self) {
        if self.transport.nodes.data_losses().is_none() {
            return;
        }
        let (transport, engine, shutdown) = (self.transport.clone(), self.engine.clone(), self.shutdown.clone());
        let needed: Vec<Digest> = needed(&self.board.borrow())
            .filter(|(app, _)| self.apps.contains(*app))
            .map(|(_, release)| release.digest.clone())
            .collect();
        self.shutdown.spawn(async move {
            for digest in needed {
                if engine.has_cached_bytes(&digest).await {
                    continue;
                }
                let fetched = tokio::select! {
                    () = shutdown.begun() => return,
                    fetched = transport.releases.component(&digest) => fetched,
                };
                if let Ok(Some(bytes)) = fetched {
                    engine.cache_bytes(&digest, &bytes).await;
                }
            }
        });
    }
}

/// The releases that apps need to run: those in use, and those being rolled out.
fn needed(board: &Board) -> impl Iterator<Item = (&Namespace, &Release)> {
    board
        .apps
        .iter()
        .flat_map(|(app, app_releases)| {
            [Some(app_releases.in_use()), app_releases.rolling_out()].map(|release| Some((app, release?)))
        })
        .flatten()
}

fn lacking(board: &Board, put: &BTreeSet<Digest>) -> Vec<(Namespace, Release)> {
    let lacking = needed(board).filter(|(_, release)| !put.contains(&release.digest));
    lacking.map(|(app, release)| (app.clone(), release.clone())).collect()
}

/// Logs the components that no node has put after a while.
async fn log_lost_components(transport: Transport, lacking: Vec<(Namespace, Release)>, shutdown: Shutdown) {
    tokio::select! {
        () = shutdown.begun() => return,
        () = sleep(COMPONENTS_TIMEOUT) => {}
    }
    for (app, release) in lacking {
        let found = tokio::select! {
            () = shutdown.begun() => return,
            found = transport.releases.component(&release.digest) => found,
        };
        if let Ok(None) = found {
            error!(
                %app,
                release = release.number,
                component = release.digest.short(),
                file = %release.file,
                "the component of this release is lost, and no node has a copy: nodes that run it keep running it, but no other node \
                 can start it; deploy its file again"
            );
        }
    }
}
