//! Requests a release and follows its rollout: shared by `deploy`, `rollback`, `dev` and watched files.
//!
//! The app-nodes carry out the rollout and decide its outcome. This side changes the board of releases once, by compare-and-set, and
//! then only polls the board and the nodes' reports.

mod progress;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;

use self::progress::RolloutProgress;
pub(super) use self::progress::{NodeProgress, RolloutOutcome, RolloutResult};
use super::author::author;
use super::format::seconds;
use plugnode_message::namespaces::Namespaces;
use plugnode_message::{Namespace, NodeId, now_ms};
use plugnode_release::{AppReleases, Board, Canary, ComponentFile, NodeReport, PREPARE_TIMEOUT, ReleaseError};
use plugnode_transport::Operations;

/// Interval of polling the board and the nodes' reports.
const POLL: Duration = Duration::from_millis(100);

/// Result of requesting a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestedRelease {
    /// A new release with this number.
    New(u64),
    /// No new release: the one with this number has the same component and is in use.
    InUse(u64),
    /// No new release: the one with this number has the same component and is being rolled out.
    RollingOut(u64),
}

/// How a release replaces the one in use.
#[derive(Debug, Clone, Copy)]
pub(super) enum Strategy<'a> {
    /// The release handles its first events on trial, and then a share of the partitions as a canary if requested.
    Trial(Option<&'a Canary>),
    /// The release is taken into use as soon as its instances have started.
    Immediate,
}

/// Stores a component and requests a release of it.
///
/// An app without releases gets its first one, unless an app-node runs the app: then its releases are about to be posted again after
/// a data loss, and the request is refused.
pub(super) async fn request(
    cluster: &Operations,
    app: &Namespace,
    component: Bytes,
    file: &str,
    strategy: Strategy<'_>,
    message: Option<&str>,
) -> Result<RequestedRelease> {
    let bytes = component.len() as u64;
    let digest = cluster.releases.put_component(component).await;
    let target = ComponentFile {
        digest: digest.context("cannot store the component")?,
        file: file.to_owned(),
        bytes,
    };
    let nodes = cluster.nodes.app_nodes().await.context("cannot list the app-nodes")?;
    let is_run = runs(&nodes, app);
    let requested = change_board(cluster, |board| {
        match board.apps.get_mut(app) {
            Some(app_releases) => {
                let number = match strategy {
                    Strategy::Immediate => app_releases.deploy_saved(target.clone(), now_ms()),
                    Strategy::Trial(canary) if is_run => app_releases.deploy(target.clone(), canary.cloned(), now_ms()),
                    Strategy::Trial(canary) => {
                        app_releases.deploy_without_nodes(target.clone(), canary.cloned(), now_ms())
                    }
                };
                if let Ok(number) = number {
                    app_releases.set_author(number, author(), message);
                }
                Ok(number)
            }
            // See above: its nodes are about to post its releases again.
            None if is_run => bail!("{}", unknown(app, board)),
            None => {
                let mut app_releases = AppReleases::first_deployed(target.clone(), now_ms());
                let number = app_releases.current;
                app_releases.set_author(number, author(), message);
                board.apps.insert(app.clone(), app_releases);
                Ok(Ok(number))
            }
        }
    });
    match requested.await? {
        Ok(number) => Ok(RequestedRelease::New(number)),
        Err(ReleaseError::InUse(number)) => Ok(RequestedRelease::InUse(number)),
        Err(ReleaseError::RollingOut(number)) => Ok(RequestedRelease::RollingOut(number)),
        Err(refused) => Err(refused.into()),
    }
}

/// Changes the releases of an app, by compare-and-set. Changes nothing if `change` refuses.
pub(super) async fn change<T>(
    cluster: &Operations,
    app: &Namespace,
    mut change: impl FnMut(&mut AppReleases) -> Result<T, ReleaseError>,
) -> Result<Result<T, ReleaseError>> {
    let changed = change_board(cluster, |board| match board.apps.get_mut(app) {
        Some(app_releases) => Ok(change(app_releases)),
        None => bail!("{}", unknown(app, board)),
    });
    changed.await
}

/// Removes an app from the board, and returns the number of its releases.
pub(super) async fn remove(cluster: &Operations, app: &Namespace) -> Result<usize> {
    let removed = change_board(cluster, |board| match board.apps.remove(app) {
        Some(app_releases) => Ok(Ok(app_releases.releases.len())),
        None => bail!("{}", unknown(app, board)),
    });
    Ok(removed.await??)
}

/// Changes the board by compare-and-set, retried until no other change interferes.
async fn change_board<T>(
    cluster: &Operations,
    mut change: impl FnMut(&mut Board) -> Result<Result<T, ReleaseError>>,
) -> Result<Result<T, ReleaseError>> {
    loop {
        let (version, mut board) = board(cluster).await?;
        let result = match change(&mut board)? {
            Ok(result) => result,
            Err(refused) => return Ok(Err(refused)),
        };
        if cluster
            .releases
            .post_board(version, &board)
            .await
            .context("cannot write the board of releases")?
        {
            return Ok(Ok(result));
        }
    }
}

/// Time limits of following a rollout.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FollowLimits {
    /// Limit of the whole rollout. None: no limit.
    pub(super) total: Option<Duration>,
    /// Limit of waiting for the first events of the release once it is in use. None: does not wait.
    pub(super) first_events: Option<Duration>,
}

/// Follows a rollout to its outcome, and reports each step. `began` is when the command began.
///
/// # Errors
/// When a limit ends first, when no app-node runs the app for as long as app-nodes wait for each other ([`PREPARE_TIMEOUT`]), or when
/// the board cannot be read.
pub(super) async fn follow(
    cluster: &Operations,
    app: &Namespace,
    number: u64,
    began: Instant,
    limits: FollowLimits,
    mut report: impl FnMut(&str),
) -> Result<RolloutResult> {
    let mut progress = RolloutProgress::new(app.clone(), number);
    let lost = || format!("cannot follow release {number}; plugnode status shows it");
    let mut untried_since = None;
    let mut last_run = Instant::now();
    loop {
        let ((_, board), nodes) =
            tokio::try_join!(cluster.releases.board(), cluster.nodes.app_nodes()).with_context(lost)?;
        if let Some(result) = progress.update(&board, &nodes, began.elapsed(), &mut report)? {
            let Some(limit) = limits
                .first_events
                .filter(|_| result.outcome == RolloutOutcome::NotTried)
            else {
                return Ok(result);
            };
            if untried_since.is_none() {
                report(&format!(
                    "it is in use; waiting for its first events ({})",
                    seconds(began.elapsed())
                ));
            }
            if untried_since.get_or_insert_with(Instant::now).elapsed() >= limit {
                return Ok(result);
            }
        }
        if runs(&nodes, app) {
            last_run = Instant::now();
        }
        if last_run.elapsed() >= PREPARE_TIMEOUT {
            bail!("no app-node has run app {app} for {PREPARE_TIMEOUT:?}; {LATER}");
        }
        if limits.total.is_some_and(|total| began.elapsed() >= total) {
            bail!(
                "the outcome of release {number} is not known after {}; {LATER}",
                seconds(began.elapsed())
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Hint on a release that is not followed to its outcome.
const LATER: &str = "the rollout goes on; plugnode status shows it, and plugnode rollback ends it";

/// Selects the app to deploy: as [`select_app`] does; or one without releases, if the config file has it.
pub(super) async fn select_or_new_app(
    cluster: &Operations,
    board: &Board,
    named: Option<&str>,
    configured: &[Namespace],
) -> Result<Namespace> {
    let new = match named {
        Some(name) => configured.iter().find(|app| app.as_str() == name),
        // The only app of the config file, even if the cluster has others.
        None if configured.len() == 1 => configured.first(),
        None => None,
    };
    match new {
        Some(app) if !board.apps.contains_key(app) => {
            check_native(cluster, app).await?;
            Ok(app.clone())
        }
        Some(app) => Ok(app.clone()),
        None => select_app(cluster, board, named).await,
    }
}

/// The board of releases, and its version.
pub(super) async fn board(cluster: &Operations) -> Result<(u64, Board)> {
    cluster
        .releases
        .board()
        .await
        .context("cannot read the board of releases")
}

/// Selects an app with releases: the named one, or the only one.
pub(super) async fn select_app(cluster: &Operations, board: &Board, named: Option<&str>) -> Result<Namespace> {
    if let Some(name) = named {
        let app = Namespace::from(name);
        if !board.apps.contains_key(&app) {
            check_native(cluster, &app).await?;
            bail!("{}", unknown(&app, board));
        }
        return Ok(app);
    }
    let mut apps = board.apps.keys();
    match (apps.next(), apps.next()) {
        (Some(app), None) => Ok(app.clone()),
        (Some(_), Some(_)) => bail!("the cluster has several apps, {}; name one by --app", list(board)),
        (None, _) => {
            for app in native(cluster).await? {
                check_native(cluster, &app).await?;
            }
            bail!(NO_APP)
        }
    }
}

/// Whether the cluster has an app of this name, or one whose pattern this namespace matches.
pub(super) async fn has_app(cluster: &Operations, board: &Board, name: &str) -> Result<bool> {
    let mut apps = Namespaces::default();
    for app in board.apps.keys().chain(&native(cluster).await?) {
        if app.as_str() == name {
            return Ok(true);
        }
        // A pattern that this version does not know matches nothing.
        let _ = apps.insert(app.as_str(), ());
    }
    Ok(apps.find(name).is_some())
}

/// Refuses an app of native Rust, which has no releases.
async fn check_native(cluster: &Operations, app: &Namespace) -> Result<()> {
    if native(cluster).await?.contains(app) {
        bail!(
            "app {app} is native Rust in the program that embeds its app-node, and has no component to replace: build and \
             restart that program"
        );
    }
    Ok(())
}

/// Apps that an app-node runs as native Rust.
async fn native(cluster: &Operations) -> Result<Vec<Namespace>> {
    let nodes = cluster.nodes.app_nodes().await.context("cannot list the app-nodes")?;
    let reports = nodes.into_iter().filter_map(|(_, report)| report);
    Ok(reports.flat_map(|report| report.native).collect())
}

/// Error for a cluster without apps.
pub(super) const NO_APP: &str = "no app runs here yet: start an app-node (plugnode run) with the app in its config file, or name by -c a config file with the \
     app to deploy";

/// Error for an app without releases.
pub(super) fn unknown(app: &Namespace, board: &Board) -> String {
    match board.apps.is_empty() {
        true => format!("there is no app {app}: {NO_APP}"),
        false => format!("there is no app {app}; the apps are: {}", list(board)),
    }
}

fn list(board: &Board) -> String {
    let apps: Vec<_> = board.apps.keys().map(Namespace::as_str).collect();
    apps.join(", ")
}

/// Whether an app-node runs the app. One that has not reported yet may run it, and counts.
pub(super) fn runs(nodes: &[(NodeId, Option<NodeReport>)], app: &Namespace) -> bool {
    nodes.iter().any(|(_, report)| may_run(report.as_ref(), app))
}

/// Whether an app-node with this report runs the app. One that has not reported yet may run it, and counts.
pub(super) fn may_run(report: Option<&NodeReport>, app: &Namespace) -> bool {
    report.is_none_or(|report| report.apps.contains_key(app))
}
