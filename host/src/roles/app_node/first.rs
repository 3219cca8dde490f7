//! How an app comes to run when its node starts: the release in use, or the configured component as the app's first.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::app::{App, Generation};
use super::{AppSource, NativeApp};
use crate::message::{Namespace, now_ms};
use crate::release::{Digest, Release, Target, Track};
use crate::shutdown::Shutdown;
use crate::transport::Transport;
use crate::wasm::{Component, Engine, Pool};

/// How long nodes that run an app have to post its releases again, should the board be lost,
const POSTED_AGAIN: Duration = Duration::from_secs(5);
/// and how often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(50);

/// Loads and starts the release of an app that is in use.
pub(super) async fn start(
    source: AppSource,
    kept: usize,
    transport: &dyn Transport,
    engine: &Engine,
    shutdown: &Shutdown,
) -> Result<App> {
    let release = in_use(&source, kept, transport).await?;
    let settings = source.settings.clone();
    let component = match engine.load_kept(&release.digest, &settings.grants).await {
        Some(component) => component,
        None => {
            let bytes = bytes(&source, &release, transport).await?;
            if transport.data_losses().is_some() {
                engine.keep_bytes(&release.digest, &bytes).await;
            }
            engine.load(bytes, &settings.grants).await?
        }
    };
    let pool = Pool::start(engine, component.clone(), settings.clone(), shutdown).await?;
    Ok(App::new(settings, Generation::new(release.number, component, pool)))
}

/// Starts an app of native code. The board of releases has no part in it.
pub(super) async fn start_native(app: NativeApp, engine: &Engine, shutdown: &Shutdown) -> Result<App> {
    let component = Component::native(app.handler);
    let pool = Pool::start(engine, component.clone(), app.settings.clone(), shutdown).await?;
    Ok(App::new(app.settings, Generation::new(0, component, pool)))
}

/// The release in use, which is made of the configured component where the app has none.
async fn in_use(source: &AppSource, kept: usize, transport: &dyn Transport) -> Result<Release> {
    let namespace = &source.settings.namespace;
    let patience = Instant::now() + POSTED_AGAIN;
    loop {
        let (version, mut board) = transport.board().await?;
        if let Some(track) = board.apps.get_mut(namespace) {
            let release = track.in_use().clone();
            tell_of_other(source, &release);
            if track.kept != kept {
                track.kept = kept;
                // Whoever was faster may have it otherwise, and then it stays so.
                transport.post_board(version, &board).await?;
            }
            return Ok(release);
        }
        if Instant::now() < patience && is_run_elsewhere(namespace, transport).await? {
            // The board was lost, and whoever runs the app is about to post it again.
            sleep(LOOK).await;
            continue;
        }
        let component = configured(source)?;
        let digest = transport.put_component(component.clone()).await?;
        let target = Target {
            digest,
            file: source.file.clone(),
            bytes: component.len() as u64,
        };
        let track = Track::first(target, now_ms(), kept);
        let release = track.in_use().clone();
        board.apps.insert(namespace.clone(), track);
        // Another node may have been faster, with the same component or with another.
        if transport.post_board(version, &board).await? {
            info!(app = %namespace, component = release.digest.short(), "the configured component is the app's first release");
            return Ok(release);
        }
    }
}

/// Whether an app-node tells that it runs the app.
async fn is_run_elsewhere(app: &Namespace, transport: &dyn Transport) -> Result<bool> {
    let nodes = transport.app_nodes().await?;
    let mut reports = nodes.iter().filter_map(|(_, report)| report.as_ref());
    Ok(reports.any(|report| report.apps.contains_key(app)))
}

/// The component of a release: the configured one if it is that, else from the store.
async fn bytes(source: &AppSource, release: &Release, transport: &dyn Transport) -> Result<Bytes> {
    if let Ok(component) = &source.component
        && Digest::of(component) == release.digest
    {
        return Ok(component.clone());
    }
    let stored = transport.component(&release.digest).await?;
    stored.ok_or_else(|| {
        anyhow!(
            "release {} is in use, and its component {} is not in the store any more: name a file with it as the app's \
             component, and start again",
            release.number,
            release.digest.short()
        )
    })
}

fn configured(source: &AppSource) -> Result<&Bytes> {
    let component = source.component.as_ref();
    component
        .map_err(|error| anyhow!("{error}"))
        .context("it has no release yet")
}

/// A configured component that is not what runs is nothing wrong, and still worth a word.
fn tell_of_other(source: &AppSource, release: &Release) {
    let Ok(component) = &source.component else { return };
    let digest = Digest::of(component);
    if digest != release.digest {
        warn!(
            app = %source.settings.namespace,
            release = release.number,
            component = release.digest.short(),
            configured = digest.short(),
            "the release in use was deployed and is not the configured component; plugnode deploy takes that into use"
        );
    }
}
