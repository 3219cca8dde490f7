//! Deploys what a component is made from each time that it changes: for `dev`, and for files that `run` watches.
//!
//! It goes by the board, as `plugnode deploy` does, so several processes may watch copies of one file: the first to see a
//! change asks for the release, and for the others there is nothing left to do.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Error, Result, anyhow};
use bytes::Bytes;
use tracing::{info, warn};

use super::rollout::{self, Asked, Followed, Outcome};
use super::sources::Sources;
use crate::config::Config;
use crate::message::Namespace;
use crate::release::Digest;
use crate::shutdown::Shutdown;
use crate::transport::Registry;
use crate::wasm::Outline;

/// What came of a change.
pub(super) enum Told {
    /// A release was asked for, and this became of it.
    Followed(Box<Followed>),
    /// No release was asked for, for this reason.
    Refused(Error),
}

/// An app that is deployed anew each time its component changes.
pub(super) struct Redeploy {
    pub(super) registry: Arc<dyn Registry>,
    pub(super) app: Namespace,
    /// The name of the component, for people.
    pub(super) file: String,
    /// What was made last: the same again is no change.
    pub(super) last: Option<Digest>,
}

impl Redeploy {
    /// Deploys what `make` gives at each change, and tells what came of it, until changes cannot be seen any more. A change that comes while a release is followed
    /// begins the next one.
    pub(super) async fn at_each_change(
        mut self,
        sources: Sources,
        make: impl AsyncFnMut() -> Result<Bytes>,
        tell: impl Fn(Told),
    ) -> Error {
        let ended = self.go_on(sources, make, tell).await;
        ended.err().unwrap_or_else(|| anyhow!("nothing is watched any more"))
    }

    async fn go_on(
        &mut self,
        mut sources: Sources,
        mut make: impl AsyncFnMut() -> Result<Bytes>,
        tell: impl Fn(Told),
    ) -> Result<()> {
        sources.changed().await?;
        loop {
            let began = Instant::now();
            let number = match self.ask(&mut make).await {
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
                    followed = rollout::follow(&*self.registry, &self.app, number, began, |_| {}) => {
                        tell(followed.map_or_else(Told::Refused, |followed| Told::Followed(Box::new(followed))));
                    }
                }
            }
            change.await?;
        }
    }

    /// Asks for what there is now, unless it is the same again. What another process has asked for is followed there.
    async fn ask(&mut self, make: &mut impl AsyncFnMut() -> Result<Bytes>) -> Result<Option<u64>> {
        let component = make().await?;
        let digest = Digest::of(&component);
        if self.last.as_ref() == Some(&digest) {
            return Ok(None);
        }
        Outline::of_handler(&component).with_context(|| format!("{} cannot run", self.file))?;
        let asked = rollout::ask(&*self.registry, &self.app, component, &self.file, None).await?;
        self.last = Some(digest);
        Ok(match asked {
            Asked::Release(number) => Some(number),
            Asked::InUse(_) | Asked::RollingOut(_) => None,
        })
    }
}

/// The files of a configuration that are to be watched, from now on.
pub(super) fn watched(config: &Config) -> Result<Vec<(Namespace, &Path, Sources)>> {
    let apps = config.apps.iter().filter(|app| app.watch);
    let watched = apps.map(|app| {
        let sources =
            Sources::of_file(&app.component).with_context(|| format!("cannot watch {}", app.component.display()))?;
        Ok((app.namespace.as_str().into(), app.component.as_path(), sources))
    });
    watched.collect()
}

/// Deploys the file of an app each time it changes, until shutdown begins.
pub(super) async fn watch(
    registry: Arc<dyn Registry>,
    app: Namespace,
    file: &Path,
    sources: Sources,
    shutdown: Shutdown,
) {
    let read = async || {
        let read = tokio::fs::read(file).await;
        read.map(Bytes::from)
            .with_context(|| format!("cannot read {}", file.display()))
    };
    let redeploy = Redeploy {
        registry,
        app: app.clone(),
        file: file.display().to_string(),
        last: None,
    };
    let tell = |told: Told| match told {
        Told::Followed(followed) => {
            let (release, digest) = (followed.release.number, followed.release.digest.short().to_owned());
            let took = followed.took;
            match followed.outcome {
                Outcome::InUse => info!(%app, release, digest, ?took, "the changed file is in use"),
                Outcome::Failed(reason) => warn!(%app, release, digest, "the changed file cannot be used: {reason}"),
                outcome => info!(%app, release, digest, ?outcome, "the changed file is not in use"),
            }
        }
        Told::Refused(error) => warn!(%app, file = %file.display(), "the changed file was not deployed: {error:#}"),
    };
    tokio::select! {
        () = shutdown.begun() => {}
        error = redeploy.at_each_change(sources, read, tell) => {
            warn!(%app, file = %file.display(), "changes are not seen any more: {error:#}");
        }
    }
}
