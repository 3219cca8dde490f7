//! Starts an app when its node starts: the release in use, or the configured component as the app's first release.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::app::App;
use super::loaded_release::LoadedRelease;
use super::setup::{AppSource, NativeApp};
use plugnode_message::{Namespace, now_ms};
use plugnode_process::shutdown::Shutdown;
use plugnode_release::{AppReleases, ComponentFile, Digest, Origin, Release};
use plugnode_runtime::{Component, Engine, Pool};
use plugnode_transport::Transport;

/// If the board was lost: how long nodes that run an app have to post its releases again,
const REPOST_TIMEOUT: Duration = Duration::from_secs(5);
/// and how often the board is read meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Loads and starts the release of an app that is in use. If the app has none, the configured component is started and then posted
/// as its first release: a component that cannot start never gets onto the board.
pub(super) async fn start(
    source: AppSource,
    kept: usize,
    transport: &Transport,
    engine: &Engine,
    shutdown: &Shutdown,
) -> Result<App> {
    if let Some(release) = in_use(&source, kept, transport).await? {
        let started = start_release(&source, &release, transport, engine, shutdown).await;
        let Err(error) = started else { return started };
        // A first release that was deployed and cannot start is replaced by the configured component.
        if shutdown.has_begun() || !record_failed_start(&source, &release, &error, transport).await? {
            return Err(error);
        }
        if configured(&source).map_or(true, |component| Digest::of(component) == release.digest) {
            return Err(error);
        }
        warn!(
            app = %source.settings.namespace,
            release = release.number,
            error = %format!("{error:#}"),
            "the app's first release cannot start; using the configured component instead"
        );
    }
    let bytes = configured(&source)?.clone();
    let size = bytes.len() as u64;
    let first = async {
        let component = load(bytes.clone(), &Digest::of(&bytes), &source, transport, engine).await?;
        let pool = Pool::start(engine, component.clone(), source.settings.clone(), shutdown).await?;
        anyhow::Ok((component, pool))
    };
    let why = || {
        format!(
            "{} cannot start as the first release, and the app has no other",
            source.file
        )
    };
    let (component, pool) = first.await.with_context(why)?;
    let file = ComponentFile {
        digest: transport.releases.put_component(bytes).await?,
        file: source.file.clone(),
        bytes: size,
    };
    // Another node may have posted a first release before, with this component or another.
    let Some(number) = post_first(&source, file, kept, transport).await? else {
        drop(pool.retire());
        let release = in_use(&source, kept, transport)
            .await?
            .context("its first release is gone from the board; start the node again")?;
        return start_release(&source, &release, transport, engine, shutdown).await;
    };
    let namespace = &source.settings.namespace;
    info!(app = %namespace, component = component.digest().short(), "the configured component is the app's first release");
    Ok(App::new(source.settings, LoadedRelease::new(number, component, pool)))
}

async fn start_release(
    source: &AppSource,
    release: &Release,
    transport: &Transport,
    engine: &Engine,
    shutdown: &Shutdown,
) -> Result<App> {
    let settings = source.settings.clone();
    let started = async {
        let component = match engine.load_cached(&release.digest, &settings.handler.grants).await {
            Some(component) => component,
            None => {
                let bytes = component_bytes(source, release, transport).await?;
                load(bytes, &release.digest, source, transport, engine).await?
            }
        };
        let pool = Pool::start(engine, component.clone(), settings.clone(), shutdown).await?;
        anyhow::Ok((component, pool))
    };
    let (number, digest) = (release.number, release.digest.short());
    let why = || {
        format!("release {number} ({digest}) is in use, whatever the configured component is, and cannot start here")
    };
    let (component, pool) = started.await.with_context(why)?;
    Ok(App::new(settings, LoadedRelease::new(number, component, pool)))
}

async fn load(
    bytes: Bytes,
    digest: &Digest,
    source: &AppSource,
    transport: &Transport,
    engine: &Engine,
) -> Result<Component> {
    if transport.nodes.data_losses().is_some() {
        engine.cache_bytes(digest, &bytes).await;
    }
    Ok(engine.load(bytes, &source.settings.handler.grants).await?)
}

/// Starts an app of native code. It has no part in the board of releases.
pub(super) async fn start_native(app: NativeApp, engine: &Engine, shutdown: &Shutdown) -> Result<App> {
    let component = Component::native(app.handler);
    let pool = Pool::start(engine, component.clone(), app.settings.clone(), shutdown).await?;
    Ok(App::new(app.settings, LoadedRelease::new(0, component, pool)))
}

/// The release in use. None if the app has no release, or only one that failed to start while another component is configured.
async fn in_use(source: &AppSource, kept: usize, transport: &Transport) -> Result<Option<Release>> {
    let namespace = &source.settings.namespace;
    let deadline = Instant::now() + REPOST_TIMEOUT;
    loop {
        let (version, mut board) = transport.releases.board().await?;
        if let Some(app_releases) = board.apps.get_mut(namespace) {
            let release = app_releases.in_use().clone();
            let is_other = |component: &Bytes| Digest::of(component) != release.digest;
            if app_releases.has_failed_start() && configured(source).is_ok_and(is_other) {
                return Ok(None);
            }
            log_other_component(source, &release);
            if app_releases.kept != kept {
                app_releases.kept = kept;
                // If another node changed the board first, its number stays.
                transport.releases.post_board(version, &board).await?;
            }
            return Ok(Some(release));
        }
        if Instant::now() >= deadline || !is_run_elsewhere(namespace, transport).await? {
            return Ok(None);
        }
        // The board was lost. The nodes that run the app are about to post it again.
        sleep(POLL_INTERVAL).await;
    }
}

/// Posts a component that has been started as the app's first release, and returns its number. None if the app has got a release
/// meanwhile.
async fn post_first(
    source: &AppSource,
    file: ComponentFile,
    kept: usize,
    transport: &Transport,
) -> Result<Option<u64>> {
    let namespace = &source.settings.namespace;
    loop {
        let (version, mut board) = transport.releases.board().await?;
        let number = match board.apps.get_mut(namespace) {
            None => {
                let app_releases = AppReleases::configured(file.clone(), now_ms(), kept);
                let number = app_releases.current;
                board.apps.insert(namespace.clone(), app_releases);
                number
            }
            Some(app_releases) if app_releases.has_failed_start() => {
                app_releases.replace_first(file.clone(), Origin::Config, now_ms())
            }
            Some(_) => return Ok(None),
        };
        if transport.releases.post_board(version, &board).await? {
            return Ok(Some(number));
        }
    }
}

/// Records on the board why a first release cannot start here. False if it is not the first, has handled an event, or was replaced.
async fn record_failed_start(
    source: &AppSource,
    release: &Release,
    error: &anyhow::Error,
    transport: &Transport,
) -> Result<bool> {
    loop {
        let (version, mut board) = transport.releases.board().await?;
        let Some(app_releases) = board.apps.get_mut(&source.settings.namespace) else {
            return Ok(false);
        };
        if !app_releases.record_failed_start(release.number, format!("{error:#}")) {
            return Ok(false);
        }
        if transport.releases.post_board(version, &board).await? {
            return Ok(true);
        }
    }
}

/// Whether an app-node reports that it runs the app.
async fn is_run_elsewhere(app: &Namespace, transport: &Transport) -> Result<bool> {
    let nodes = transport.nodes.app_nodes().await?;
    let mut reports = nodes.iter().filter_map(|(_, report)| report.as_ref());
    Ok(reports.any(|report| report.apps.contains_key(app)))
}

/// The component of a release: the configured one if it is the same, else from the transport.
async fn component_bytes(source: &AppSource, release: &Release, transport: &Transport) -> Result<Bytes> {
    if let Ok(component) = &source.component
        && Digest::of(component) == release.digest
    {
        return Ok(component.clone());
    }
    let stored = transport.releases.component(&release.digest).await?;
    stored.ok_or_else(|| {
        anyhow!(
            "the component {} of release {} is not in the store any more: configure a file with it as the app's component, and \
             start again",
            release.digest.short(),
            release.number
        )
    })
}

fn configured(source: &AppSource) -> Result<&Bytes> {
    let component = source.component.as_ref();
    component
        .map_err(|error| anyhow!("{error}"))
        .context("it has no release yet")
}

/// Warns if the configured component is not the one of the release in use. This is no error.
fn log_other_component(source: &AppSource, release: &Release) {
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
