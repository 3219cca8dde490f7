//! Deploys what a component is made from each time that it changes: for `dev`, and for files that `run` watches.
//!
//! It goes by the board, as `plugnode deploy` does, so several processes may watch copies of one file: the first to see a
//! change asks for the release, and for the others there is nothing left to do.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Instant;

use anyhow::{Context, Error, Result, anyhow};
use async_trait::async_trait;
use bytes::Bytes;
use tracing::{info, warn};

use super::progress;
use super::rollout::{self, Asked, Followed, Outcome, Patience, Way};
use super::sources::Sources;
use plugnode_message::Namespace;
use plugnode_process::shutdown::Shutdown;
use plugnode_release::Digest;
use plugnode_runtime::ComponentInfo;
use plugnode_server::config::{Config, Role};
use plugnode_transport::Operations;

/// What came of a change.
pub(super) enum Told {
    /// A release was asked for, and this became of it.
    Followed(Box<Followed>),
    /// No release was asked for, for this reason.
    Refused(Error),
    /// What there is now was in use before.
    Same,
}

/// Where a component comes from, again and again.
#[async_trait]
pub(super) trait Origin: Send + Sync {
    /// The component as it is now.
    async fn component(&self) -> Result<Bytes>;
}

/// An app that is deployed anew each time its component changes.
pub(super) struct Redeploy {
    pub(super) operations: Operations,
    pub(super) app: Namespace,
    /// The name of the component, for people.
    pub(super) file: String,
    /// How it comes into use.
    pub(super) way: Way<'static>,
    /// What was made last: the same again is no change.
    pub(super) last: Option<Digest>,
    /// Takes a word for who waits long.
    pub(super) say: fn(&str),
}

impl Redeploy {
    /// Deploys what comes from `origin` at each change, and tells what came of it, until changes cannot be seen any more. A change
    /// that comes while a release is followed begins the next one.
    pub(super) async fn at_each_change(mut self, sources: Sources, origin: &dyn Origin, tell: impl Fn(Told)) -> Error {
        let ended = self.go_on(sources, origin, tell).await;
        ended.err().unwrap_or_else(|| anyhow!("nothing is watched any more"))
    }

    async fn go_on(&mut self, mut sources: Sources, origin: &dyn Origin, tell: impl Fn(Told)) -> Result<()> {
        sources.changed().await?;
        loop {
            let began = Instant::now();
            let number = match self.ask(origin).await {
                Ok(None) => {
                    tell(Told::Same);
                    None
                }
                Ok(number) => number,
                Err(error) => {
                    tell(Told::Refused(error));
                    None
                }
            };
            let mut change = pin!(sources.changed());
            if let Some(number) = number {
                tokio::select! {
                    changed = &mut change => {
                        changed?;
                        continue;
                    }
                    followed = self.follow(number, began) => {
                        tell(followed.map_or_else(Told::Refused, |followed| Told::Followed(Box::new(followed))));
                    }
                }
            }
            change.await?;
        }
    }

    async fn follow(&self, number: u64, began: Instant) -> Result<Followed> {
        let what = || format!("release {number} is on its way");
        let follow = rollout::follow(&self.operations, &self.app, number, began, Patience::default(), |_| {});
        progress::during(what, self.say, follow).await
    }

    /// Asks for what there is now, unless it is the same again. What another process has asked for is followed there.
    async fn ask(&mut self, origin: &dyn Origin) -> Result<Option<u64>> {
        let component = origin.component().await?;
        let digest = Digest::of(&component);
        if self.last.as_ref() == Some(&digest) {
            return Ok(None);
        }
        ComponentInfo::of_handler(&component).with_context(|| format!("{} cannot run", self.file))?;
        let asked = rollout::ask(&self.operations, &self.app, component, &self.file, self.way, None).await?;
        self.last = Some(digest);
        Ok(match asked {
            Asked::Release(number) => Some(number),
            Asked::InUse(_) | Asked::RollingOut(_) => None,
        })
    }
}

/// The file of an app that is deployed each time it changes.
pub(super) struct Watched {
    app: Namespace,
    file: PathBuf,
    sources: Sources,
    /// What is in it as watching begins.
    first: Option<Digest>,
}

impl Watched {
    /// The files that a configuration says are to be watched, from now on.
    pub(super) fn all(config: &Config) -> Result<Vec<Self>> {
        let is_app_node = config.has(Role::AppNode);
        let apps = config.apps.iter().filter(|app| is_app_node && app.watch);
        let watched = apps.map(|app| {
            let file = app.component.clone();
            let sources = Sources::of_file(&file).with_context(|| format!("cannot watch {}", file.display()))?;
            // Read only now: what is written meanwhile is a change.
            let first = std::fs::read(&file).ok().map(|bytes| Digest::of(&bytes));
            Ok(Self {
                app: app.namespace.as_str().into(),
                file,
                sources,
                first,
            })
        });
        watched.collect()
    }

    /// Deploys the file each time it changes, until shutdown begins.
    pub(super) async fn deploy(self, operations: Operations, shutdown: Shutdown) {
        let (app, file) = (self.app, self.file);
        let redeploy = Redeploy {
            operations,
            app: app.clone(),
            file: file.display().to_string(),
            way: Way::Tried(None),
            last: self.first,
            say: |line| info!("{line}"),
        };
        let origin = File(file.clone());
        tokio::select! {
            () = shutdown.begun() => {}
            error = redeploy.at_each_change(self.sources, &origin, |told| log(&app, &file, told)) => {
                warn!(%app, file = %file.display(), "changes are not seen any more: {error:#}");
            }
        }
    }
}

struct File(PathBuf);

#[async_trait]
impl Origin for File {
    async fn component(&self) -> Result<Bytes> {
        let read = tokio::fs::read(&self.0).await;
        read.map(Bytes::from)
            .with_context(|| format!("cannot read {}", self.0.display()))
    }
}

fn log(app: &Namespace, file: &Path, told: Told) {
    let file = file.display();
    let followed = match told {
        Told::Followed(followed) => followed,
        Told::Same => return,
        Told::Refused(error) => return warn!(%app, %file, "the changed file was not deployed: {error:#}"),
    };
    let (release, digest, took) = (followed.release.number, followed.release.digest.short(), followed.took);
    match followed.outcome {
        Outcome::InUse => info!(%app, release, digest, ?took, %file, "the changed file is in use"),
        Outcome::NotTried => {
            info!(%app, release, digest, ?took, %file, "the changed file is in use and not tried yet: no events");
        }
        Outcome::Failed(reason) => warn!(%app, release, digest, %file, "the changed file cannot be used: {reason}"),
        outcome => info!(%app, release, digest, ?outcome, %file, "the changed file is not in use"),
    }
}
