//! Makes one app of this node follow the board: fetches, compiles and starts the release being rolled out, gives it the share of
//! events of its phase, and replaces the release in use.
//!
//! It decides nothing for the cluster: it does what the board says, and reports its stage.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::app::App;
use super::candidate::{Candidate, Share};
use super::loaded_release::LoadedRelease;
use plugnode_process::Backoff;
use plugnode_process::shutdown::Shutdown;
use plugnode_release::{AppReleases, Board, Digest, NodeStage, Phase};
use plugnode_runtime::{Component, Dispatch, Engine, Pool};
use plugnode_transport::Transport;

/// First delay before this node tries again to load a release that is current in the cluster.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// Longest delay before this node tries again to load a release that is current in the cluster.
const MAX_DELAY: Duration = Duration::from_secs(30);

/// Why an app with sticky dispatch cannot have a canary.
const NO_CANARY: &str = "this app has dispatch = \"sticky\", and what its instances know of their clients cannot go to a canary and \
                         back: deploy without --canary";
/// Delay before a release that failed here is tried once more, if the board still asks for it.
const RETRY_FAILED_AFTER: Duration = Duration::from_secs(10);
/// How long new instances may take to start with the state of the old ones before they are reported as not started.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the compile lock of the machine is held while the component is fetched. Another node may reach the store when this
/// one does not.
const FETCH_LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes one app follow the board.
pub(super) struct Follower {
    app: Arc<App>,
    partitions: u16,
    transport: Transport,
    engine: Engine,
    board: watch::Receiver<Arc<Board>>,
    shutdown: Shutdown,
    /// The release that failed here last. It is not tried again at once.
    failed: Option<u64>,
    backoff: Backoff,
}

/// What to do next.
#[derive(Debug, PartialEq)]
enum Step {
    /// Wait for a change.
    Wait,
    /// Load a release and begin its trial.
    Prepare(TargetRelease),
    /// Load a release and take it into use without a trial, because it is current in the cluster.
    CatchUp(TargetRelease),
    /// Replace the release in use by the candidate.
    Swap,
    /// Give the component in use another release number.
    Renumber(u64),
    /// End the trial of a release that the board does not ask for any more.
    EndTrial,
}

/// The release that the board asks for.
#[derive(Debug, Clone, PartialEq)]
struct TargetRelease {
    number: u64,
    digest: Digest,
    /// Whether it is compared on a share of the partitions.
    is_canary: bool,
}

impl TargetRelease {
    /// The release being rolled out, else the current one.
    fn of(app_releases: &AppReleases) -> Option<Self> {
        let release = app_releases
            .rolling_out()
            .or_else(|| app_releases.release(app_releases.current))?;
        let canary = app_releases
            .rollout
            .as_ref()
            .and_then(|rollout| rollout.canary.as_ref());
        Some(Self {
            number: release.number,
            digest: release.digest.clone(),
            is_canary: canary.is_some(),
        })
    }

    fn is(&self, number: u64, digest: &Digest) -> bool {
        self.number == number && self.digest == *digest
    }
}

impl Follower {
    pub(super) fn new(
        app: Arc<App>,
        partitions: u16,
        transport: Transport,
        engine: Engine,
        board: watch::Receiver<Arc<Board>>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            app,
            partitions,
            transport,
            engine,
            board,
            shutdown,
            failed: None,
            backoff: Backoff::new(FIRST_DELAY, MAX_DELAY),
        }
    }

    /// Follows until shutdown begins.
    pub(super) async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            () = shutdown.begun() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&mut self) {
        loop {
            match self.next_step() {
                Step::Wait => self.changed().await,
                Step::Prepare(target) => self.prepare(target).await,
                Step::CatchUp(target) => self.catch_up(target).await,
                Step::Swap => self.swap(),
                Step::Renumber(number) => self.app.renumber(number),
                Step::EndTrial => {
                    self.app.end_trial();
                    self.app.set_stage(None);
                }
            }
        }
    }

    /// Waits for a change of the board or of the candidate.
    async fn changed(&mut self) {
        tokio::select! {
            Ok(()) = self.board.changed() => {}
            () = self.app.candidate_changed.notified() => {}
            // Without a release to roll back to, the cluster stays with one that failed here.
            () = sleep(RETRY_FAILED_AFTER), if self.failed.is_some() => self.failed = None,
        }
    }

    /// Sets the candidate's share of events and decides what to do next.
    fn next_step(&mut self) -> Step {
        let board = self.board.borrow_and_update().clone();
        let Some(app_releases) = board.apps.get(&self.app.settings.namespace) else {
            return Step::Wait;
        };
        let (in_use, candidate) = (self.app.in_use(), self.app.candidate());
        let is_in_use = |target: &TargetRelease| target.is(in_use.number, in_use.component.digest());
        let Some(target) = TargetRelease::of(app_releases).filter(|target| !is_in_use(target)) else {
            return self.settle(app_releases, candidate.is_some());
        };
        let is_current = target.number == app_releases.current;
        let promoted = candidate
            .as_ref()
            .filter(|it| it.number == app_releases.current && !is_current);
        if let Some(candidate) = promoted {
            // It is current without a trial here, and the next rollout has begun, which may fall back on it.
            return match candidate.failure() {
                Some(reason) => self.give_up(candidate.number, reason.to_owned()),
                None => Step::Swap,
            };
        }
        if self.failed == Some(app_releases.current) && in_use.number != app_releases.current {
            // The cluster is about to take it back. Until then, the failure stays reported.
            return Step::Wait;
        }
        let Some(candidate) = candidate.filter(|it| target.is(it.number, it.digest())) else {
            return match is_current {
                _ if self.failed == Some(target.number) => Step::Wait,
                true if target.digest == *in_use.component.digest() => Step::Renumber(target.number),
                true => Step::CatchUp(target),
                false => Step::Prepare(target),
            };
        };
        if let Some(reason) = candidate.failure() {
            let reason = reason.to_owned();
            return self.give_up(target.number, reason);
        }
        if is_current && (candidate.is_proven() || !app_releases.needs_trial(target.number)) {
            return Step::Swap;
        }
        let phase = app_releases
            .rollout
            .as_ref()
            .map(|rollout| (rollout.phase, &rollout.canary));
        let share = match phase {
            // It is current without a trial, for lack of events. The first ones are its trial.
            None => Share::All,
            Some((Phase::Preparing, _)) => Share::None,
            Some((Phase::Canary, Some(canary))) => Share::Partitions(canary.partitions(target.number, self.partitions)),
            Some((Phase::Trying | Phase::Canary, _)) => Share::FirstEvents,
        };
        if candidate.set_share(share.clone()) && matches!(share, Share::Partitions(..)) {
            // The comparison begins.
            candidate.stats.reset();
            self.app.in_use().stats.reset();
        }
        let stage = match candidate.is_proven() {
            true => NodeStage::Proven,
            false => NodeStage::Ready,
        };
        self.app.set_stage(Some((target.number, stage)));
        Step::Wait
    }

    /// The board asks for nothing but the release in use.
    fn settle(&mut self, app_releases: &AppReleases, has_candidate: bool) -> Step {
        if has_candidate {
            return Step::EndTrial;
        }
        // A failure stays reported until the cluster has reacted to it.
        if self.failed != Some(app_releases.current) {
            self.failed = None;
            self.app.set_stage(None);
        }
        Step::Wait
    }

    /// Ends the trial here, and reports why.
    fn give_up(&mut self, number: u64, reason: String) -> Step {
        warn!(app = %self.app.settings.namespace, release = number, error = %reason, "release cannot be used");
        self.failed = Some(number);
        self.app.end_trial();
        self.app.set_stage(Some((number, NodeStage::Failed(reason))));
        Step::Wait
    }

    async fn prepare(&mut self, target: TargetRelease) {
        self.app.end_trial();
        if target.is_canary && self.app.settings.handler.dispatch == Dispatch::Sticky {
            self.give_up(target.number, NO_CANARY.to_owned());
            return;
        }
        let (app, number) = (self.app.clone(), target.number);
        let preparing = async {
            let component = self.component(&target).await?;
            app.set_stage(Some((number, NodeStage::Starting)));
            let successor =
                Pool::prepare(&self.engine, component.clone(), app.settings.clone(), &self.shutdown).await?;
            let instances = if target.is_canary {
                app.settings.handler.instances
            } else {
                1
            };
            let mut trial_settings = app.settings.clone();
            trial_settings.handler.instances = instances;
            trial_settings.handler.max_instances = None;
            let trial_pool = Pool::start(&self.engine, component.clone(), trial_settings, &self.shutdown).await?;
            Ok(Candidate::new(number, component, trial_pool, successor))
        };
        let Some(prepared) = self.unless_superseded(number, preparing).await else {
            return;
        };
        match prepared {
            Ok(candidate) => {
                app.begin_trial(candidate);
                app.set_stage(Some((number, NodeStage::Ready)));
            }
            // It is current by now: this node catches up, instead of making the others go back.
            Err(_) if self.is_current(number) => {}
            Err(error) => drop(self.give_up(number, format!("{error:#}"))),
        }
    }

    /// Loads the current release and takes it into use. After an error it waits, and the next step tries again.
    async fn catch_up(&mut self, target: TargetRelease) {
        self.app.end_trial();
        let (app, number) = (self.app.clone(), target.number);
        let catching_up = async {
            let component = self.component(&target).await?;
            let pool = Pool::prepare(&self.engine, component.clone(), app.settings.clone(), &self.shutdown).await?;
            Ok(LoadedRelease::new(number, component, pool))
        };
        let Some(made) = self.unless_superseded(number, catching_up).await else {
            return;
        };
        match made {
            Ok(release) => {
                self.take_into_use(release);
                self.backoff.reset();
            }
            Err(error) => {
                let reason = format!("{error:#}");
                warn!(
                    app = %app.settings.namespace,
                    release = number,
                    error = %reason,
                    "cannot take the release into use yet; trying again"
                );
                app.set_stage(Some((number, NodeStage::Behind(reason))));
                let pause = self.backoff.next_delay();
                tokio::select! {
                    () = sleep(pause) => {}
                    _ = self.board.changed() => self.board.mark_changed(),
                }
            }
        }
    }

    /// Runs work for a release, and drops it as soon as the board asks for another one. That ends a compiler that it has started.
    async fn unless_superseded<T>(&self, number: u64, work: impl Future<Output = Result<T>>) -> Option<Result<T>> {
        let mut board = self.board.clone();
        let is_other = |board: &Arc<Board>| {
            let app_releases = board.apps.get(&self.app.settings.namespace);
            let target = app_releases.and_then(TargetRelease::of);
            target.is_none_or(|target| target.number != number)
        };
        tokio::select! {
            done = work => Some(done),
            Ok(_) = board.wait_for(is_other) => None,
        }
    }

    fn swap(&mut self) {
        let Some(candidate) = self.app.candidate() else { return };
        let (component, successor) = (candidate.component.clone(), candidate.successor.clone());
        self.failed = None;
        let release = LoadedRelease::new(candidate.number, component, successor);
        if candidate.is_proven() {
            release.set_answered();
        }
        self.take_into_use(release);
    }

    /// Replaces the release in use, and reports that at once and again when all instances have started.
    fn take_into_use(&self, release: LoadedRelease) {
        let dropped = self.app.swap(release);
        // Unmapping its code takes a while.
        spawn_blocking(move || drop(dropped));
        self.app.set_stage(None);
        let (app, pool) = (self.app.clone(), self.app.in_use().pool.clone());
        self.shutdown.spawn(async move {
            let _ = timeout(START_TIMEOUT, pool.started()).await;
            app.report_changed.notify_one();
        });
    }

    fn is_current(&self, number: u64) -> bool {
        let board = self.board.borrow();
        let app_releases = board.apps.get(&self.app.settings.namespace);
        app_releases.is_some_and(|app_releases| app_releases.current == number)
    }

    /// The component of a release: loaded already, from the compile cache, or compiled.
    async fn component(&self, target: &TargetRelease) -> Result<Component> {
        if let Some(component) = self.app.loaded_component(&target.digest) {
            return Ok(component);
        }
        let app = &self.app;
        if let Some(component) = self
            .engine
            .load_cached(&target.digest, &app.settings.handler.grants)
            .await
        {
            return Ok(component);
        }
        app.set_stage(Some((target.number, NodeStage::Fetching)));
        // One node of a machine fetches and compiles it. The others wait, then find it in the compile cache.
        let lock = self.engine.lock_compilation(&target.digest).await?;
        if let Some(component) = self
            .engine
            .load_cached(&target.digest, &app.settings.handler.grants)
            .await
        {
            return Ok(component);
        }
        let mut fetching = pin!(self.transport.releases.component(&target.digest));
        let (bytes, lock) = match timeout(FETCH_LOCK_TIMEOUT, &mut fetching).await {
            Ok(bytes) => (bytes?, lock),
            Err(_) => {
                drop(lock);
                (fetching.await?, self.engine.lock_compilation(&target.digest).await?)
            }
        };
        let bytes = bytes.context("its component is not in the store any more; deploy it again")?;
        if self.transport.nodes.data_losses().is_some() {
            self.engine.cache_bytes(&target.digest, &bytes).await;
        }
        app.set_stage(Some((target.number, NodeStage::Compiling)));
        let loading = self
            .engine
            .load_locked(target.digest.clone(), bytes, &app.settings.handler.grants, lock);
        let component = loading.await?;
        info!(app = %app.settings.namespace, release = target.number, component = component.release(), "release loaded");
        Ok(component)
    }
}
