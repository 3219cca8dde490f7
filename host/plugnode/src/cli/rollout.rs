//! Asks for a release, and follows it until it is clear what has become of it: what `deploy`, `rollback`, `dev` and watched
//! files have in common.
//!
//! The app-nodes do the work and decide. Here the board is changed once, and from then on only read.

mod progress;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;

use self::progress::RolloutProgress;
pub(super) use self::progress::{Followed, NodeProgress, Outcome, in_words};
use super::author::author;
use super::words::seconds;
use plugnode_message::{Namespace, NodeId, now_ms};
use plugnode_release::{AppReleases, Board, Canary, ComponentFile, NodeReport, PREPARE_TIMEOUT, ReleaseError};
use plugnode_transport::Operations;

/// How often the board and the nodes are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A release of this number is on its way.
    Release(u64),
    /// The release of this number has the same component, and is in use.
    InUse(u64),
    /// The release of this number has the same component, and is on its way already.
    RollingOut(u64),
}

/// How a release comes into use.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way<'a> {
    /// It is tried by first events, and then as a canary if that is wanted.
    Tried(Option<&'a Canary>),
    /// As soon as it has started.
    AtOnce,
}

/// Puts a component into the store and asks for a release of it. Of an app that has none, and that no node runs, it is the first.
pub(super) async fn ask(
    cluster: &Operations,
    app: &Namespace,
    component: Bytes,
    file: &str,
    way: Way<'_>,
    message: Option<&str>,
) -> Result<Asked> {
    let bytes = component.len() as u64;
    let digest = cluster.releases.put_component(component).await;
    let target = ComponentFile {
        digest: digest.context("cannot store the component")?,
        file: file.to_owned(),
        bytes,
    };
    let nodes = cluster
        .nodes
        .app_nodes()
        .await
        .context("cannot ask which app-nodes run")?;
    let is_run = runs(&nodes, app);
    let asked = change_board(cluster, |board| {
        match board.apps.get_mut(app) {
            Some(app_releases) => {
                let number = match way {
                    Way::AtOnce => app_releases.deploy_saved(target.clone(), now_ms()),
                    Way::Tried(canary) if is_run => app_releases.deploy(target.clone(), canary.cloned(), now_ms()),
                    Way::Tried(canary) => app_releases.deploy_without_nodes(target.clone(), canary.cloned(), now_ms()),
                };
                if let Ok(number) = number {
                    app_releases.set_author(number, author(), message);
                }
                Ok(number)
            }
            // Nodes that run it are about to post its releases again.
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
    match asked.await? {
        Ok(number) => Ok(Asked::Release(number)),
        Err(ReleaseError::InUse(number)) => Ok(Asked::InUse(number)),
        Err(ReleaseError::RollingOut(number)) => Ok(Asked::RollingOut(number)),
        Err(refused) => Err(refused.into()),
    }
}

/// Changes an app's releases on the board, by compare-and-swap. A refused change changes nothing.
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

/// Takes an app off the board, and returns how many releases it had.
pub(super) async fn remove(cluster: &Operations, app: &Namespace) -> Result<usize> {
    let removed = change_board(cluster, |board| match board.apps.remove(app) {
        Some(app_releases) => Ok(Ok(app_releases.releases.len())),
        None => bail!("{}", unknown(app, board)),
    });
    Ok(removed.await??)
}

async fn change_board<T>(
    cluster: &Operations,
    mut change: impl FnMut(&mut Board) -> Result<Result<T, ReleaseError>>,
) -> Result<Result<T, ReleaseError>> {
    loop {
        let (version, mut board) = cluster
            .releases
            .board()
            .await
            .context("cannot read the board of releases")?;
        let done = match change(&mut board)? {
            Ok(done) => done,
            Err(refused) => return Ok(Err(refused)),
        };
        // Somebody else may have been faster: then it is decided anew.
        if cluster
            .releases
            .post_board(version, &board)
            .await
            .context("cannot ask for the release")?
        {
            return Ok(Ok(done));
        }
    }
}

/// How long a release is followed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Patience {
    /// For how long in all; none is for as long as it takes.
    pub(super) whole: Option<Duration>,
    /// For how long its first events are waited for once it is in use; none is not at all.
    pub(super) for_events: Option<Duration>,
}

/// Follows a release and tells of each step, until it is clear what has become of it. What has to be waited for is waited for,
/// but an app-node no longer than app-nodes wait for each other.
///
/// # Errors
/// When it is not clear by the end of patience, or cannot be seen.
pub(super) async fn follow(
    cluster: &Operations,
    app: &Namespace,
    number: u64,
    began: Instant,
    patience: Patience,
    mut tell: impl FnMut(&str),
) -> Result<Followed> {
    let mut progress = RolloutProgress::new(app.clone(), number);
    let lost = || format!("cannot see how release {number} does; plugnode status shows it");
    let mut untried_since = None;
    let mut last_seen = Instant::now();
    loop {
        let ((_, board), nodes) =
            tokio::try_join!(cluster.releases.board(), cluster.nodes.app_nodes()).with_context(lost)?;
        if let Some(followed) = progress.look(&board, &nodes, began.elapsed(), &mut tell)? {
            let Some(most) = patience.for_events.filter(|_| followed.outcome == Outcome::NotTried) else {
                return Ok(followed);
            };
            if untried_since.is_none() {
                tell(&format!(
                    "it is in use, and its first events are waited for ({})",
                    seconds(began.elapsed())
                ));
            }
            if untried_since.get_or_insert_with(Instant::now).elapsed() >= most {
                return Ok(followed);
            }
        }
        if runs(&nodes, app) {
            last_seen = Instant::now();
        }
        if last_seen.elapsed() >= PREPARE_TIMEOUT {
            bail!("no app-node has come to run app {app} within {PREPARE_TIMEOUT:?}: {LATER}");
        }
        if patience.whole.is_some_and(|whole| began.elapsed() >= whole) {
            bail!(
                "it is not clear after {} how release {number} does: {LATER}",
                seconds(began.elapsed())
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What becomes of a release that is not followed any more.
const LATER: &str = "the rollout goes on when it can; plugnode status shows it, and plugnode rollback ends it";

/// The app that a deploy is meant for: as `app_of`, or a new one, which has to be among those that the config file names.
pub(super) async fn app_or_new(
    cluster: &Operations,
    board: &Board,
    named: Option<&str>,
    configured: &[Namespace],
) -> Result<Namespace> {
    let new = match named {
        Some(name) => configured.iter().find(|app| app.as_str() == name),
        // Never another one, however many there are.
        None if configured.len() == 1 => configured.first(),
        None => None,
    };
    match new {
        Some(app) if !board.apps.contains_key(app) => {
            check_native(cluster, app).await?;
            Ok(app.clone())
        }
        Some(app) => Ok(app.clone()),
        None => app_of(cluster, board, named).await,
    }
}

/// The app that is meant: the one that is named, or the only one.
pub(super) async fn app_of(cluster: &Operations, board: &Board, named: Option<&str>) -> Result<Namespace> {
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
        (Some(_), Some(_)) => bail!("there are several apps, {}: name one by --app", listed(board)),
        (None, _) => {
            for app in native(cluster).await? {
                check_native(cluster, &app).await?;
            }
            bail!(NONE)
        }
    }
}

/// An app of native Rust has no releases.
async fn check_native(cluster: &Operations, app: &Namespace) -> Result<()> {
    if native(cluster).await?.contains(app) {
        bail!(
            "app {app} is native Rust in the program that embeds its app-node, and has no component to replace: build and \
             restart that program"
        );
    }
    Ok(())
}

/// The apps that some node runs as native Rust.
async fn native(cluster: &Operations) -> Result<Vec<Namespace>> {
    let nodes = cluster
        .nodes
        .app_nodes()
        .await
        .context("cannot ask which app-nodes run")?;
    let reports = nodes.into_iter().filter_map(|(_, report)| report);
    Ok(reports.flat_map(|report| report.native).collect())
}

/// What to do where no app is.
pub(super) const NONE: &str = "no app runs here yet: start an app-node (plugnode run), whose config file names the app's first component, or deploy with \
     -c FILE an app that FILE names";

fn unknown(app: &Namespace, board: &Board) -> String {
    match board.apps.is_empty() {
        true => format!("there is no app {app}: {NONE}"),
        false => format!("there is no app {app}; there are {}", listed(board)),
    }
}

fn listed(board: &Board) -> String {
    let apps: Vec<_> = board.apps.keys().map(Namespace::as_str).collect();
    apps.join(", ")
}

/// Whether an app-node runs the app, or may: one that has told nothing yet has just come.
pub(super) fn runs(nodes: &[(NodeId, Option<NodeReport>)], app: &Namespace) -> bool {
    nodes.iter().any(|(_, report)| may_run(report.as_ref(), app))
}

/// Whether an app-node that tells this runs the app, or may.
pub(super) fn may_run(report: Option<&NodeReport>, app: &Namespace) -> bool {
    report.is_none_or(|report| report.apps.contains_key(app))
}
