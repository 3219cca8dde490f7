//! This node's part in the releases of the cluster: keeps the board at hand, tells of the node, and takes rollouts further.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::app::App;
use super::apps::Apps;
use super::board_keeper::BoardKeeper;
use super::follower::Follower;
use plugnode_message::{Namespace, NodeId, now_ms};
use plugnode_process::jittered;
use plugnode_process::shutdown::Shutdown;
use plugnode_release::{AppReleases, Board, NodeReport, NodeStatus, Phase, Stage};
use plugnode_runtime::Engine;
use plugnode_transport::{Result, Transport};

/// How often the node tells of itself when nothing happens
const REPORT: Duration = Duration::from_secs(1);
/// and during a rollout,
const REPORT_SOON: Duration = Duration::from_millis(250);
/// and how often it then looks at what the others tell,
const LOOK: Duration = Duration::from_millis(50);
/// or while two releases are compared, which takes long.
const LOOK_AT_CANARY: Duration = Duration::from_millis(500);
/// How long to wait when the transport cannot be asked.
const PAUSE: Duration = Duration::from_secs(1);

/// The node's part in releases.
pub(super) struct Rollouts {
    node: NodeId,
    apps: Arc<Apps>,
    transport: Transport,
    shutdown: Shutdown,
    /// Since when each app's rollout is in its phase, as this node has seen it.
    phases: HashMap<Namespace, (u64, Option<Phase>, Instant)>,
}

impl Rollouts {
    /// Begins to follow the board, from what is known of it.
    pub(super) fn start(
        node: NodeId,
        apps: Arc<Apps>,
        transport: Transport,
        engine: &Engine,
        partitions: u16,
        board: (u64, Board),
        shutdown: &Shutdown,
    ) {
        if apps.all().next().is_none() {
            return;
        }
        let (version, board) = board;
        let (sender, receiver) = watch::channel(Arc::new(board));
        for app in apps.all().filter(|app| !app.is_native()) {
            let follower = Follower::new(
                app.clone(),
                partitions,
                transport.clone(),
                engine.clone(),
                receiver.clone(),
                shutdown.clone(),
            );
            shutdown.spawn(follower.run());
        }
        let with_releases = apps.all().filter(|app| !app.is_native());
        let keeper = BoardKeeper::new(
            sender,
            version,
            with_releases.map(|app| app.settings.namespace.clone()).collect(),
            transport.clone(),
            engine.clone(),
            shutdown.clone(),
        );
        shutdown.spawn(keeper.run());
        let rollouts = Self {
            node,
            apps,
            transport,
            shutdown: shutdown.clone(),
            phases: HashMap::new(),
        };
        shutdown.spawn(rollouts.run(receiver));
    }

    async fn run(mut self, board: watch::Receiver<Arc<Board>>) {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            () = shutdown.begun() => {}
            () = self.go_on(board) => {}
        }
    }

    async fn go_on(&mut self, board: watch::Receiver<Arc<Board>>) {
        let mut told: Option<(NodeReport, Instant)> = None;
        loop {
            let report = self.report();
            let look = look(&board.borrow(), &report);
            let due = look.map_or(REPORT, |_| REPORT_SOON);
            let is_due = told
                .as_ref()
                .is_none_or(|(told, at)| at.elapsed() >= due || differs(told, &report));
            if is_due {
                match self.transport.nodes.report(&report).await {
                    Ok(()) => told = Some((report, Instant::now())),
                    Err(error) => {
                        warn!(%error, "cannot tell how the releases do");
                        sleep(jittered(PAUSE)).await;
                    }
                }
            }
            if look.is_some()
                && let Err(error) = self.step().await
            {
                warn!(%error, "cannot take a rollout further");
                sleep(jittered(PAUSE)).await;
            }
            let pause = look.unwrap_or(REPORT);
            let news = select_all(self.apps.all().map(|app| Box::pin(app.reports.notified())));
            tokio::select! {
                () = sleep(pause) => {}
                _ = news => {}
            }
        }
    }

    fn report(&self) -> NodeReport {
        let (native, apps): (Vec<_>, Vec<_>) = self.apps.all().partition(|app| app.is_native());
        let report = |app: &Arc<App>| (app.settings.namespace.clone(), app.report());
        NodeReport {
            node: self.node.clone(),
            at_ms: now_ms(),
            apps: apps.into_iter().map(report).collect::<BTreeMap<_, _>>(),
            native: native.iter().map(|app| app.settings.namespace.clone()).collect(),
        }
    }

    /// Takes each app's rollout a step further, if what the nodes tell allows it. Whichever node is first does it.
    async fn step(&mut self) -> Result<()> {
        let ((version, before), nodes) =
            tokio::try_join!(self.transport.releases.board(), self.transport.nodes.app_nodes())?;
        let mut board = before.clone();
        let mut has_changed = false;
        for (namespace, app_releases) in &mut board.apps {
            let age = self.age(namespace, app_releases);
            let peers: Vec<_> = nodes
                .iter()
                .filter_map(|(node, report)| {
                    let Some(report) = report else {
                        return Some(NodeStatus { node, app: None });
                    };
                    // A node that has not got the app has no say in it.
                    let app = report.apps.get(namespace)?;
                    Some(NodeStatus { node, app: Some(app) })
                })
                .collect();
            has_changed |= app_releases.advance(&peers, age);
        }
        if !has_changed || !self.transport.releases.post_board(version, &board).await? {
            return Ok(());
        }
        for (namespace, app_releases) in &board.apps {
            tell(namespace, before.apps.get(namespace), app_releases);
        }
        self.transport.releases.prune_components().await
    }

    fn age(&mut self, namespace: &Namespace, app_releases: &AppReleases) -> Duration {
        let rollout = app_releases.rollout.as_ref();
        let present = (
            rollout.map_or(app_releases.current, |it| it.release),
            rollout.map(|it| it.phase),
        );
        let known = self.phases.get(namespace);
        if known.is_none_or(|(release, phase, _)| (*release, *phase) != present) {
            self.phases
                .insert(namespace.clone(), (present.0, present.1, Instant::now()));
        }
        self.phases[namespace].2.elapsed()
    }
}

/// How often to look at what the others tell. None when nothing of what this node runs is on its way.
fn look(board: &Board, report: &NodeReport) -> Option<Duration> {
    let looks = report.apps.iter().filter_map(|(namespace, app)| {
        let stage = app.progress.as_ref().map(|progress| &progress.stage);
        let app_releases = board.apps.get(namespace)?;
        let in_use = app_releases.in_use();
        let is_news = app.has_answered || (app.first_failure.is_some() && in_use.first_failure.is_none());
        let is_first_answer = is_news && app.release == app_releases.current && !in_use.is_tried;
        match (app_releases.rollout.as_ref().map(|rollout| rollout.phase), stage) {
            _ if is_first_answer => Some(LOOK),
            (Some(Phase::Canary), _) => Some(LOOK_AT_CANARY),
            (Some(_), _) | (None, Some(Stage::Failed(_))) => Some(LOOK),
            (None, _) => None,
        }
    });
    looks.min()
}

/// Whether there is more to tell than how many events there were.
fn differs(told: &NodeReport, report: &NodeReport) -> bool {
    let words = |report: &NodeReport| -> Vec<_> {
        let apps = report.apps.values();
        apps.map(|app| {
            let progress = app
                .progress
                .as_ref()
                .map(|progress| (progress.release, progress.stage.clone()));
            let answers = (app.have_begun, app.has_answered, app.first_failure.is_some());
            (app.release, answers, progress, app.states_refused.len())
        })
        .collect()
    };
    words(told) != words(report)
}

fn tell(namespace: &Namespace, before: Option<&AppReleases>, app_releases: &AppReleases) {
    let was_rolling_out = before.and_then(|before| before.rolling_out());
    let Some(release) = was_rolling_out.and_then(|release| app_releases.release(release.number)) else {
        let Some(before) = before else { return };
        if before.current != app_releases.current {
            let state = app_releases
                .release(before.current)
                .map(|release| release.state.to_string());
            let state = state.unwrap_or_default();
            warn!(app = %namespace, release = before.current, back_to = app_releases.current, "release was taken back: it {state}");
        } else if !before.in_use().is_tried && app_releases.in_use().is_tried {
            info!(app = %namespace, release = app_releases.current, "release has answered its first events");
        } else if let (None, Some(trouble)) = (&before.in_use().first_failure, &app_releases.in_use().first_failure) {
            warn!(
                app = %namespace, release = app_releases.current,
                "release has answered no event yet and fails: {trouble}; deploy another, or put the app's file right and restart"
            );
        }
        return;
    };
    match app_releases.rollout.as_ref().map(|rollout| rollout.phase) {
        Some(phase) if before.and_then(|before| before.rollout.as_ref()).map(|it| it.phase) != Some(phase) => {
            info!(app = %namespace, release = release.number, ?phase, "rollout goes on");
        }
        Some(_) => {}
        None if app_releases.current == release.number && !release.is_tried => {
            info!(app = %namespace, release = release.number, "rollout ended: release is in use and not tried yet: no events");
        }
        None => info!(app = %namespace, release = release.number, "rollout ended: release {}", release.state),
    }
}
