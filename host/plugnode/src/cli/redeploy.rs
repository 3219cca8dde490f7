//! Requests a release at each change of an app's sources: for `plugnode dev`, and for component files that `plugnode run` watches.
//!
//! Like `plugnode deploy` it goes through the board of releases. Several processes may therefore watch copies of one file: the first
//! one to notice a change requests the release, and the others find it requested.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Instant;

use anyhow::{Context, Error, Result, anyhow};
use async_trait::async_trait;
use bytes::Bytes;
use tracing::{info, warn};

use super::rollout::{self, FollowLimits, RequestedRelease, RolloutOutcome, RolloutResult, Strategy};
use super::source_watcher::SourceWatcher;
use super::terminal;
use plugnode_message::Namespace;
use plugnode_process::shutdown::Shutdown;
use plugnode_release::Digest;
use plugnode_runtime::ComponentInfo;
use plugnode_server::config::{Config, Role};
use plugnode_transport::Operations;

/// Result of a change.
pub(super) enum ChangeResult {
    /// A release was requested, and its rollout ended like this.
    Followed(Box<RolloutResult>),
    /// No release was requested, for this reason.
    Refused(Error),
    /// The component is the same as before.
    Unchanged,
}

/// Source of an app's component.
#[async_trait]
pub(super) trait ComponentSource: Send + Sync {
    /// Reads or builds the current component.
    async fn component(&self) -> Result<Bytes>;
}

/// Deploys an app at each change.
pub(super) struct Redeploy {
    pub(super) operations: Operations,
    pub(super) app: Namespace,
    /// Name of the component's file, recorded with each release.
    pub(super) file: String,
    pub(super) strategy: Strategy<'static>,
    /// The last component that was deployed: the same one again is no change.
    pub(super) last: Option<Digest>,
    /// Receives progress messages when a rollout takes long.
    pub(super) say: fn(&str),
}

impl Redeploy {
    /// Deploys the component of `source` at each change, and passes the results to `report`, until the watcher fails. A change during a
    /// rollout supersedes the rollout.
    pub(super) async fn at_each_change(
        mut self,
        watcher: SourceWatcher,
        source: &dyn ComponentSource,
        report: impl Fn(ChangeResult),
    ) -> Error {
        let ended = self.run(watcher, source, report).await;
        ended.err().unwrap_or_else(|| anyhow!("the file watcher has ended"))
    }

    async fn run(
        &mut self,
        mut watcher: SourceWatcher,
        source: &dyn ComponentSource,
        report: impl Fn(ChangeResult),
    ) -> Result<()> {
        watcher.changed().await?;
        loop {
            let began = Instant::now();
            let number = match self.request(source).await {
                Ok(None) => {
                    report(ChangeResult::Unchanged);
                    None
                }
                Ok(number) => number,
                Err(error) => {
                    report(ChangeResult::Refused(error));
                    None
                }
            };
            let mut change = pin!(watcher.changed());
            if let Some(number) = number {
                tokio::select! {
                    changed = &mut change => {
                        changed?;
                        continue;
                    }
                    result = self.follow(number, began) => {
                        report(result.map_or_else(ChangeResult::Refused, |result| ChangeResult::Followed(Box::new(result))));
                    }
                }
            }
            change.await?;
        }
    }

    async fn follow(&self, number: u64, began: Instant) -> Result<RolloutResult> {
        let what = || format!("rolling out release {number}");
        let follow = rollout::follow(
            &self.operations,
            &self.app,
            number,
            began,
            FollowLimits::default(),
            |_| {},
        );
        terminal::during(what, self.say, follow).await
    }

    /// Requests a release of the current component. None if it is the last one, or if another process has requested it and follows it.
    async fn request(&mut self, source: &dyn ComponentSource) -> Result<Option<u64>> {
        let component = source.component().await?;
        let digest = Digest::of(&component);
        if self.last.as_ref() == Some(&digest) {
            return Ok(None);
        }
        ComponentInfo::of_handler(&component).with_context(|| format!("{} cannot run", self.file))?;
        let strategy = self.strategy;
        let requested = rollout::request(&self.operations, &self.app, component, &self.file, strategy, None).await?;
        self.last = Some(digest);
        Ok(match requested {
            RequestedRelease::New(number) => Some(number),
            RequestedRelease::InUse(_) | RequestedRelease::RollingOut(_) => None,
        })
    }
}

/// A component file that is deployed at each change (`[[app]] watch`).
pub(super) struct WatchedFile {
    app: Namespace,
    file: PathBuf,
    watcher: SourceWatcher,
    /// Component in the file when watching began.
    first: Option<Digest>,
}

impl WatchedFile {
    /// Watches the files of all apps with `watch`, from now on.
    pub(super) fn all(config: &Config) -> Result<Vec<Self>> {
        let is_app_node = config.has(Role::AppNode);
        let apps = config.apps.iter().filter(|app| is_app_node && app.watch);
        let watched = apps.map(|app| {
            let file = app.component.clone();
            let watcher = SourceWatcher::file(&file).with_context(|| format!("cannot watch {}", file.display()))?;
            // Read after the watch has begun: a write in between is a change.
            let first = std::fs::read(&file).ok().map(|bytes| Digest::of(&bytes));
            Ok(Self {
                app: app.namespace.as_str().into(),
                file,
                watcher,
                first,
            })
        });
        watched.collect()
    }

    /// Deploys the file at each change, until shutdown begins.
    pub(super) async fn deploy(self, operations: Operations, shutdown: Shutdown) {
        let (app, file) = (self.app, self.file);
        let redeploy = Redeploy {
            operations,
            app: app.clone(),
            file: file.display().to_string(),
            strategy: Strategy::Trial(None),
            last: self.first,
            say: |line| info!("{line}"),
        };
        let source = FileOnDisk(file.clone());
        tokio::select! {
            () = shutdown.begun() => {}
            error = redeploy.at_each_change(self.watcher, &source, |result| log(&app, &file, result)) => {
                warn!(%app, file = %file.display(), error = %format_args!("{error:#}"), "changes of the file are no longer noticed; restart this process");
            }
        }
    }
}

struct FileOnDisk(PathBuf);

#[async_trait]
impl ComponentSource for FileOnDisk {
    async fn component(&self) -> Result<Bytes> {
        let read = tokio::fs::read(&self.0).await;
        read.map(Bytes::from)
            .with_context(|| format!("cannot read {}", self.0.display()))
    }
}

fn log(app: &Namespace, file: &Path, result: ChangeResult) {
    let file = file.display();
    let result = match result {
        ChangeResult::Followed(result) => result,
        ChangeResult::Unchanged => return,
        ChangeResult::Refused(error) => {
            return warn!(%app, %file, error = %format_args!("{error:#}"), "the changed file was not deployed");
        }
    };
    let (release, digest, took) = (result.release.number, result.release.digest.short(), result.took);
    match result.outcome {
        RolloutOutcome::InUse => info!(%app, release, digest, ?took, %file, "the changed file is in use"),
        RolloutOutcome::NotTried => {
            info!(%app, release, digest, ?took, %file, "the changed file is in use and not tried yet: no events");
        }
        RolloutOutcome::Failed(reason) => {
            warn!(%app, release, digest, %file, %reason, "the changed file cannot be used");
        }
        outcome => info!(%app, release, digest, ?outcome, %file, "the changed file is not in use"),
    }
}
