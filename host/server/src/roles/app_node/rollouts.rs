//! This node's part in the rollouts of the cluster: starts the board watcher and the followers, reports on the node, and advances
//! rollouts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::app::App;
use super::apps::Apps;
use super::board_watcher::BoardWatcher;
use super::follower::Follower;
use plugnode_message::{Namespace, NodeId, now_ms};
use plugnode_process::jittered;
use plugnode_process::shutdown::Shutdown;
use plugnode_release::{AppReleases, Board, NodeReport, NodeStage, NodeStatus, Phase};
use plugnode_runtime::Engine;
use plugnode_transport::{Result, Transport};

/// Interval of reports without a rollout,
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// and during one.
const ROLLOUT_REPORT_INTERVAL: Duration = Duration::from_millis(250);
/// How often a node reads the reports of the others during a rollout,
const ADVANCE_INTERVAL: Duration = Duration::from_millis(50);
/// and during a canary, which takes long.
const CANARY_INTERVAL: Duration = Duration::from_millis(500);
/// Pause after an error of the transport.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// Reports on this node and advances rollouts.
pub(super) struct Rollouts {
    node: NodeId,
    apps: Arc<Apps>,
    transport: Transport,
    shutdown: Shutdown,
    /// Release number and phase of each app's rollout, and when this node first saw them. Without a rollout: the current release.
    phases: HashMap<Namespace, (u64, Option<Phase>, Instant)>,
}

impl Rollouts {
    /// Starts to follow the board, from its known version and content. Does nothing on a node without apps.
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
        let watcher = BoardWatcher::new(
            sender,
            version,
            with_releases.map(|app| app.settings.namespace.clone()).collect(),
            transport.clone(),
            engine.clone(),
            shutdown.clone(),
        );
        shutdown.spawn(watcher.run());
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
            () = self.report_and_advance(board) => {}
        }
    }

    async fn report_and_advance(&mut self, board: watch::Receiver<Arc<Board>>) {
        let mut sent: Option<(NodeReport, Instant)> = None;
        loop {
            let report = self.report();
            let interval = advance_interval(&board.borrow(), &report);
            let due = interval.map_or(REPORT_INTERVAL, |_| ROLLOUT_REPORT_INTERVAL);
            let is_due = sent
                .as_ref()
                .is_none_or(|(sent, at)| at.elapsed() >= due || has_news(sent, &report));
            if is_due {
                match self.transport.nodes.report(&report).await {
                    Ok(()) => sent = Some((report, Instant::now())),
                    Err(error) => {
                        warn!(%error, "cannot report on the releases of this node; trying again");
                        sleep(jittered(ERROR_PAUSE)).await;
                    }
                }
            }
            if interval.is_some()
                && let Err(error) = self.advance().await
            {
                warn!(%error, "cannot advance a rollout; trying again");
                sleep(jittered(ERROR_PAUSE)).await;
            }
            let pause = interval.unwrap_or(REPORT_INTERVAL);
            let changed = select_all(self.apps.all().map(|app| Box::pin(app.report_changed.notified())));
            tokio::select! {
                () = sleep(pause) => {}
                _ = changed => {}
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

    /// Advances each app's rollout if the reports of the nodes allow it. The first node to post the board does it.
    async fn advance(&mut self) -> Result<()> {
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
                    // A node that does not run the app does not count.
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
            log_change(namespace, before.apps.get(namespace), app_releases);
        }
        self.transport.releases.prune_components().await
    }

    /// For how long the app has been in its present phase, as seen by this node.
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

/// How often to read the reports of the others. None if no app of this node is in a rollout or handles its first event.
fn advance_interval(board: &Board, report: &NodeReport) -> Option<Duration> {
    let intervals = report.apps.iter().filter_map(|(namespace, app)| {
        let stage = app.progress.as_ref().map(|progress| &progress.stage);
        let app_releases = board.apps.get(namespace)?;
        let in_use = app_releases.in_use();
        let is_news = app.has_answered || (app.first_failure.is_some() && in_use.first_failure.is_none());
        let is_first_answer = is_news && app.release == app_releases.current && !in_use.is_tried;
        match (app_releases.rollout.as_ref().map(|rollout| rollout.phase), stage) {
            _ if is_first_answer => Some(ADVANCE_INTERVAL),
            (Some(Phase::Canary), _) => Some(CANARY_INTERVAL),
            (Some(_), _) | (None, Some(NodeStage::Failed(_))) => Some(ADVANCE_INTERVAL),
            (None, _) => None,
        }
    });
    intervals.min()
}

/// Whether more has changed since the last report than numbers of events.
fn has_news(sent: &NodeReport, report: &NodeReport) -> bool {
    let state = |report: &NodeReport| -> Vec<_> {
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
    state(sent) != state(report)
}

/// Logs what a posted board changed for an app.
fn log_change(namespace: &Namespace, before: Option<&AppReleases>, app_releases: &AppReleases) {
    let was_rolling_out = before.and_then(|before| before.rolling_out());
    let Some(release) = was_rolling_out.and_then(|release| app_releases.release(release.number)) else {
        let Some(before) = before else { return };
        if before.current != app_releases.current {
            let state = app_releases
                .release(before.current)
                .map(|release| release.state.to_string());
            let state = state.unwrap_or_default();
            warn!(app = %namespace, release = before.current, back_to = app_releases.current, %state, "release was taken back");
        } else if !before.in_use().is_tried && app_releases.in_use().is_tried {
            info!(app = %namespace, release = app_releases.current, "release has answered its first events");
        } else if let (None, Some(error)) = (&before.in_use().first_failure, &app_releases.in_use().first_failure) {
            warn!(
                app = %namespace,
                release = app_releases.current,
                %error,
                "release has answered no event yet and fails; deploy another, or correct the app's file and restart"
            );
        }
        return;
    };
    match app_releases.rollout.as_ref().map(|rollout| rollout.phase) {
        Some(phase) if before.and_then(|before| before.rollout.as_ref()).map(|it| it.phase) != Some(phase) => {
            info!(app = %namespace, release = release.number, ?phase, "rollout entered its next phase");
        }
        Some(_) => {}
        None if app_releases.current == release.number && !release.is_tried => {
            info!(app = %namespace, release = release.number, "rollout ended: release is in use and not tried yet, for lack of events");
        }
        None if app_releases.current == release.number => {
            info!(app = %namespace, release = release.number, "rollout ended: release is in use");
        }
        None => {
            info!(app = %namespace, release = release.number, state = %release.state, "rollout ended: release is not in use");
        }
    }
}
