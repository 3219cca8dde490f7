//! Keeps the board of releases at hand, and posts it again when the transport has lost it.
//!
//! What is in use outlives the transport's data: each app-node knows the board, and keeps the bytes of the components that its
//! apps use in its cache. After a loss the nodes agree as they do on any change of the board, by compare-and-set: the first
//! to post the board that it knew wins, and each puts the components that it has.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{debug, error, info, warn};

use plugnode_message::Namespace;
use plugnode_process::jittered;
use plugnode_process::shutdown::Shutdown;
use plugnode_release::{Board, Digest, Release};
use plugnode_runtime::Engine;
use plugnode_transport::Transport;

/// How long to wait when the transport cannot be asked.
const PAUSE: Duration = Duration::from_secs(1);
/// How long heartbeats may take to tell that data were lost, once a board looks as if it had begun anew,
const DOUBT: Duration = Duration::from_secs(1);
/// and how often they are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long other nodes have to put the components that this one lacks, before they count as lost.
const OTHERS_PUT: Duration = Duration::from_secs(10);

/// The board, as this node knows it.
pub(super) struct BoardKeeper {
    board: watch::Sender<Arc<Board>>,
    version: u64,
    /// How often the transport had lost data by then.
    losses: u64,
    /// The apps of this node that have releases.
    apps: BTreeSet<Namespace>,
    transport: Transport,
    engine: Engine,
    shutdown: Shutdown,
}

impl BoardKeeper {
    /// From what is known of the board.
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

    /// Follows the board for as long as the process serves.
    pub(super) async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            () = shutdown.begun() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&mut self) {
        self.keep_components();
        loop {
            match self.transport.releases.board_after(self.version).await {
                Ok((version, board)) => self.hears(version, board).await,
                Err(error) => {
                    warn!(%error, "cannot read which releases are to run; what runs goes on");
                    sleep(jittered(PAUSE)).await;
                }
            }
        }
    }

    /// Takes over what stands on the board now, unless that lacks what was lost: then it is posted again, and read again.
    async fn hears(&mut self, version: u64, board: Board) {
        let known = self.board.borrow().clone();
        if let Some(recovered) = board.recovered(&known)
            && (self.lacks_app(&board) || self.has_lost_data(version, board.descends_from(&known)).await)
        {
            return self.post_again(version, recovered).await;
        }
        self.version = version;
        self.losses = self.transport.nodes.data_losses().unwrap_or_default();
        if board == *known {
            // Another node has posted it again, which may lack some components.
            self.put_components(&board).await;
        }
        self.board.send_replace(Arc::new(board));
        self.keep_components();
    }

    /// Whether the board lacks an app that this node runs: it may have been removed while the node was starting.
    fn lacks_app(&self, board: &Board) -> bool {
        self.apps.iter().any(|app| !board.apps.contains_key(app))
    }

    /// Whether the board that has this version stands where data were lost. Versions grow otherwise, and one that goes on from
    /// what was known is doubted no longer than it takes to look: each step of a rollout is such a board.
    async fn has_lost_data(&mut self, version: u64, goes_on: bool) -> bool {
        let until = Instant::now() + if goes_on { Duration::ZERO } else { DOUBT };
        while version > self.version {
            let losses = self.transport.nodes.data_losses().unwrap_or_default();
            if losses != self.losses {
                self.losses = losses;
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            sleep(LOOK).await;
        }
        true
    }

    async fn post_again(&mut self, version: u64, board: Board) {
        // First: whoever reads of a component on the board wants to find it.
        let put = self.put_components(&board).await;
        match self.transport.releases.post_board(version, &board).await {
            Ok(true) => {
                info!("the transport had lost the board of releases; the releases in use are posted again");
                let (transport, lacking) = (self.transport.clone(), lacking(&board, &put));
                self.shutdown
                    .spawn(tell_what_nobody_has(transport, lacking, self.shutdown.clone()));
                self.version = version;
            }
            Ok(false) => debug!("another node has posted the board of releases"),
            Err(error) => {
                warn!(%error, "cannot post the releases in use again; trying again");
                sleep(jittered(PAUSE)).await;
            }
        }
    }

    /// Puts every component of the board that this node has, and returns which these are.
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
                Err(error) => warn!(component = digest.short(), %error, "cannot put a component again"),
            }
        }
        put
    }

    /// Sees to it that this node has the bytes of the components that its apps use, should the transport lose them.
    fn keep_components(&self) {
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

/// The releases without which apps cannot run: those in use, and those that are rolled out.
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

/// Tells of the components that no node has put, once all had time to.
async fn tell_what_nobody_has(transport: Transport, lacking: Vec<(Namespace, Release)>, shutdown: Shutdown) {
    tokio::select! {
        () = shutdown.begun() => return,
        () = sleep(OTHERS_PUT) => {}
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
                "the component of this release is lost, and no node has kept it: it runs on where it runs, but no other node can \
                 start it; deploy the file {} again",
                release.file
            );
        }
    }
}
