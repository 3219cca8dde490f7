//! Brings one app of this node to where the board says that it should be: fetches, compiles and starts what is to be tried,
//! gives it the events that its phase allows, and swaps.
//!
//! It decides nothing for the cluster. It does what the board says, and says how far it is.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::app::{App, Generation};
use super::candidate::{Candidate, Share};
use plugnode_process::Backoff;
use plugnode_process::shutdown::Shutdown;
use plugnode_release::{AppReleases, Board, Digest, Phase, Stage};
use plugnode_runtime::{AppSettings, Component, Dispatch, Engine, Pool};
use plugnode_transport::Transport;

/// How long to wait before a release that is in use elsewhere is tried again here, at first
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// and at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why an app is no canary whose instances know their clients.
const NO_CANARY: &str = "this app has dispatch = \"sticky\", and what its instances know of their clients cannot go to a canary and \
                         back: deploy without --canary";
/// After so long, a release that could not be used here is tried once more, if it is asked for still.
const RECONSIDERED: Duration = Duration::from_secs(10);
/// How long instances that get the state of others may take to begin, before that is told as it is.
const BEGINNING: Duration = Duration::from_secs(30);
/// For how long other nodes of the machine let this one fetch a component: they may reach the store when it does not.
const FETCHING: Duration = Duration::from_secs(5);

/// Follows the board for one app.
pub(super) struct Follower {
    app: Arc<App>,
    partitions: u16,
    transport: Transport,
    engine: Engine,
    board: watch::Receiver<Arc<Board>>,
    shutdown: Shutdown,
    /// A release that could not be used here, so that it is not tried again and again.
    failed: Option<u64>,
    backoff: Backoff,
}

/// What is to be done next.
#[derive(Debug, PartialEq)]
enum Task {
    /// Nothing, until there is news.
    Wait,
    /// Get a release ready for its trial.
    Prepare(Wanted),
    /// Take into use at once what the cluster uses already.
    CatchUp(Wanted),
    /// Put the candidate in the place of what is in use.
    Swap,
    /// The component in use has another number by now.
    Renumber(u64),
    /// End the trial of a release that nobody asks for any more.
    Dismiss,
}

#[derive(Debug, Clone, PartialEq)]
struct Wanted {
    number: u64,
    digest: Digest,
    /// Whether it is to have a share of the partitions.
    is_canary: bool,
}

impl Wanted {
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
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
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
            let task = self.next();
            match task {
                Task::Wait => self.news().await,
                Task::Prepare(wanted) => self.prepare(wanted).await,
                Task::CatchUp(wanted) => self.catch_up(wanted).await,
                Task::Swap => self.swap(),
                Task::Renumber(number) => self.app.renumber(number),
                Task::Dismiss => {
                    self.app.dismiss();
                    self.app.set_stage(None);
                }
            }
        }
    }

    /// Waits for a change of the board, or of how the candidate does.
    async fn news(&mut self) {
        tokio::select! {
            Ok(()) = self.board.changed() => {}
            () = self.app.changes.notified() => {}
            // Where there was nothing to go back to, the cluster stays with a release that failed here.
            () = sleep(RECONSIDERED), if self.failed.is_some() => self.failed = None,
        }
    }

    /// What to do next, once the candidate has been given the events that are its due.
    fn next(&mut self) -> Task {
        let board = self.board.borrow_and_update().clone();
        let Some(app_releases) = board.apps.get(&self.app.settings.namespace) else {
            return Task::Wait;
        };
        let (in_use, candidate) = (self.app.in_use(), self.app.candidate());
        let is_in_use = |wanted: &Wanted| wanted.is(in_use.number, in_use.component.digest());
        let Some(wanted) = wanted(app_releases).filter(|wanted| !is_in_use(wanted)) else {
            return self.settle(app_releases, candidate.is_some());
        };
        let is_current = wanted.number == app_releases.current;
        let promoted = candidate
            .as_ref()
            .filter(|it| it.number == app_releases.current && !is_current);
        if let Some(candidate) = promoted {
            // It had no first events here, and by now it is the one to fall back on.
            return match candidate.failure() {
                Some(reason) => self.give_up(candidate.number, reason.to_owned()),
                None => Task::Swap,
            };
        }
        if self.failed == Some(app_releases.current) && in_use.number != app_releases.current {
            // The cluster is about to take it back: that it failed here must be seen until then.
            return Task::Wait;
        }
        let Some(candidate) = candidate.filter(|it| wanted.is(it.number, it.digest())) else {
            return match is_current {
                _ if self.failed == Some(wanted.number) => Task::Wait,
                true if wanted.digest == *in_use.component.digest() => Task::Renumber(wanted.number),
                true => Task::CatchUp(wanted),
                false => Task::Prepare(wanted),
            };
        };
        if let Some(reason) = candidate.failure() {
            let reason = reason.to_owned();
            return self.give_up(wanted.number, reason);
        }
        if is_current && (candidate.is_proven() || !app_releases.needs_trial(wanted.number)) {
            return Task::Swap;
        }
        let phase = app_releases
            .rollout
            .as_ref()
            .map(|rollout| (rollout.phase, &rollout.canary));
        let share = match phase {
            // Nobody had an event for it, and still it is in use now: its first ones will show.
            None => Share::Everything,
            Some((Phase::Preparing, _)) => Share::Nothing,
            Some((Phase::Canary, Some(canary))) => Share::Partitions(canary.partitions(wanted.number, self.partitions)),
            Some((Phase::Trying | Phase::Canary, _)) => Share::First,
        };
        if candidate.give(share.clone()) && matches!(share, Share::Partitions(..)) {
            // From here on the two are compared.
            candidate.tally.reset();
            self.app.in_use().tally.reset();
        }
        let stage = match candidate.is_proven() {
            true => Stage::Proven,
            false => Stage::Ready,
        };
        self.app.set_stage(Some((wanted.number, stage)));
        Task::Wait
    }

    /// Nothing is asked for but what is in use.
    fn settle(&mut self, app_releases: &AppReleases, has_candidate: bool) -> Task {
        if has_candidate {
            return Task::Dismiss;
        }
        // A failure stays to be seen until the cluster has drawn its conclusion.
        if self.failed != Some(app_releases.current) {
            self.failed = None;
            self.app.set_stage(None);
        }
        Task::Wait
    }

    /// Ends the trial here, and tells the cluster why.
    fn give_up(&mut self, number: u64, reason: String) -> Task {
        warn!(app = %self.app.settings.namespace, release = number, "release cannot be used: {reason}");
        self.failed = Some(number);
        self.app.dismiss();
        self.app.set_stage(Some((number, Stage::Failed(reason))));
        Task::Wait
    }

    async fn prepare(&mut self, wanted: Wanted) {
        self.app.dismiss();
        if wanted.is_canary && self.app.settings.dispatch == Dispatch::Sticky {
            self.give_up(wanted.number, NO_CANARY.to_owned());
            return;
        }
        let (app, number) = (self.app.clone(), wanted.number);
        let preparing = async {
            let component = self.component(&wanted).await?;
            app.set_stage(Some((number, Stage::Starting)));
            let heir = Pool::prepare(&self.engine, component.clone(), app.settings.clone(), &self.shutdown).await?;
            let instances = if wanted.is_canary { app.settings.instances } else { 1 };
            let on_trial = AppSettings {
                instances,
                ..app.settings.clone()
            };
            let trial = Pool::start(&self.engine, component.clone(), on_trial, &self.shutdown).await?;
            Ok(Candidate::new(number, component, trial, heir))
        };
        let Some(prepared) = self.unless_superseded(number, preparing).await else {
            return;
        };
        match prepared {
            Ok(candidate) => {
                app.try_out(candidate);
                app.set_stage(Some((number, Stage::Ready)));
            }
            // The others use it by now: it is for this node to come along, and not for them to go back.
            Err(_) if self.is_current(number) => {}
            Err(error) => drop(self.give_up(number, format!("{error:#}"))),
        }
    }

    /// Takes what the rest of the cluster uses already, however often it takes.
    async fn catch_up(&mut self, wanted: Wanted) {
        self.app.dismiss();
        let (app, number) = (self.app.clone(), wanted.number);
        let catching_up = async {
            let component = self.component(&wanted).await?;
            let pool = Pool::prepare(&self.engine, component.clone(), app.settings.clone(), &self.shutdown).await?;
            Ok(Generation::new(number, component, pool))
        };
        let Some(made) = self.unless_superseded(number, catching_up).await else {
            return;
        };
        match made {
            Ok(generation) => {
                self.take_into_use(generation);
                self.backoff.reset();
            }
            Err(error) => {
                let reason = format!("{error:#}");
                warn!(app = %app.settings.namespace, release = number, "cannot take the release in use yet: {reason}");
                app.set_stage(Some((number, Stage::Behind(reason))));
                let pause = self.backoff.next_delay();
                tokio::select! {
                    () = sleep(pause) => {}
                    _ = self.board.changed() => self.board.mark_changed(),
                }
            }
        }
    }

    /// Does some work on a release, or drops it, and with it a compiler that it has started, as soon as another is wanted.
    async fn unless_superseded<T>(&self, number: u64, work: impl Future<Output = Result<T>>) -> Option<Result<T>> {
        let mut board = self.board.clone();
        let is_other = |board: &Arc<Board>| {
            let wanted = board.apps.get(&self.app.settings.namespace).and_then(wanted);
            wanted.is_none_or(|wanted| wanted.number != number)
        };
        tokio::select! {
            done = work => Some(done),
            Ok(_) = board.wait_for(is_other) => None,
        }
    }

    fn swap(&mut self) {
        let Some(candidate) = self.app.candidate() else { return };
        let (component, heir) = (candidate.component.clone(), candidate.heir.clone());
        self.failed = None;
        let generation = Generation::new(candidate.number, component, heir);
        if candidate.is_proven() {
            generation.answered();
        }
        self.take_into_use(generation);
    }

    /// Swaps, and tells of it at once and again when all instances have begun.
    fn take_into_use(&self, generation: Generation) {
        let forgotten = self.app.swap(generation);
        // Its code leaves the memory of the process, which takes a while.
        spawn_blocking(move || drop(forgotten));
        self.app.set_stage(None);
        let (app, pool) = (self.app.clone(), self.app.in_use().pool.clone());
        self.shutdown.spawn(async move {
            let _ = timeout(BEGINNING, pool.started()).await;
            app.reports.notify_one();
        });
    }

    fn is_current(&self, number: u64) -> bool {
        let board = self.board.borrow();
        let app_releases = board.apps.get(&self.app.settings.namespace);
        app_releases.is_some_and(|app_releases| app_releases.current == number)
    }

    /// The component, as it is loaded already or from the store.
    async fn component(&self, wanted: &Wanted) -> Result<Component> {
        if let Some(component) = self.app.loaded(&wanted.digest) {
            return Ok(component);
        }
        let app = &self.app;
        if let Some(component) = self.engine.load_cached(&wanted.digest, &app.settings.grants).await {
            return Ok(component);
        }
        app.set_stage(Some((wanted.number, Stage::Fetching)));
        // One node of a machine fetches and compiles it; the others wait, and then find it in the compile cache.
        let lock = self.engine.lock_compilation(&wanted.digest).await?;
        if let Some(component) = self.engine.load_cached(&wanted.digest, &app.settings.grants).await {
            return Ok(component);
        }
        let mut fetching = pin!(self.transport.releases.component(&wanted.digest));
        let (bytes, lock) = match timeout(FETCHING, &mut fetching).await {
            Ok(bytes) => (bytes?, lock),
            Err(_) => {
                drop(lock);
                (fetching.await?, self.engine.lock_compilation(&wanted.digest).await?)
            }
        };
        let bytes = bytes.context("its component is not in the store any more: deploy it again")?;
        if self.transport.nodes.data_losses().is_some() {
            self.engine.cache_bytes(&wanted.digest, &bytes).await;
        }
        app.set_stage(Some((wanted.number, Stage::Compiling)));
        let loading = self
            .engine
            .load_locked(wanted.digest.clone(), bytes, &app.settings.grants, lock);
        let component = loading.await?;
        info!(app = %app.settings.namespace, release = wanted.number, component = component.release(), "release loaded");
        Ok(component)
    }
}

/// The release that the app is to get to: the one being rolled out, else the one in use.
fn wanted(app_releases: &AppReleases) -> Option<Wanted> {
    let release = app_releases
        .rolling_out()
        .or_else(|| app_releases.release(app_releases.current))?;
    let canary = app_releases
        .rollout
        .as_ref()
        .and_then(|rollout| rollout.canary.as_ref());
    Some(Wanted {
        number: release.number,
        digest: release.digest.clone(),
        is_canary: canary.is_some(),
    })
}
