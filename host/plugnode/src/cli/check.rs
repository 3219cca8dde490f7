//! `plugnode check`: whether a component can run here, and what it asks for: it is compiled and started, and given no event.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;

use super::progress::{during, say};
use super::runtime;
use plugnode_process::shutdown::Shutdown;
use plugnode_runtime::{AppSettings, ComponentInfo, Engine, EngineSettings, LoadError, Pool};
use plugnode_server::config::{App, Config, Role};
use plugnode_server::settings;
use plugnode_transport::{Memory, MemorySettings, Transport};

/// Arguments of `plugnode check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plugnode check chat.wasm                          with no grants
  plugnode check chat.wasm --grant-keyvalue default
  plugnode check -c plugnode.toml                   the config file, and the components of all its apps
  plugnode check next.wasm -c plugnode.toml         another component with what the config file gives its app

The exit code is 0 when all that was checked can run.")]
pub struct Arguments {
    /// The component; may be left out with --config, which names some
    #[arg(value_name = "APP.wasm", required_unless_present = "config")]
    pub component: Option<PathBuf>,
    /// Read this config file, and check with the grants, limits and settings of its apps
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The namespace of the app in the config file; may be left out when there is one app only
    #[arg(long, value_name = "NAMESPACE", requires = "config")]
    pub app: Option<String>,
    /// A key-value bucket that the app's configuration will grant; may be given more than once
    #[arg(long, value_name = "BUCKET")]
    pub grant_keyvalue: Vec<String>,
    /// A host that the app's configuration will let it send HTTP requests to; may be given more than once
    #[arg(long, value_name = "HOST")]
    pub grant_http: Vec<String>,
}

/// Prints what each component is. The exit code says whether all could run.
pub fn check(arguments: &Arguments) -> Result<ExitCode> {
    let apps = apps(arguments)?;
    runtime::block_on(async {
        let mut all_can = true;
        for app in &apps {
            all_can &= check_one(app).await?;
        }
        Ok(if all_can { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// What is to be checked, with what it is to be given.
fn apps(arguments: &Arguments) -> Result<Vec<App>> {
    let mut apps = match &arguments.config {
        Some(file) => configured(file, arguments.component.as_deref())?,
        None => vec![App::default()],
    };
    if let Some(name) = &arguments.app {
        apps.retain(|app| app.namespace == *name);
        if apps.is_empty() {
            bail!("the config file has no app {name}");
        }
    }
    if let Some(component) = &arguments.component {
        if apps.len() > 1 {
            bail!("the config file has several apps: name one by --app");
        }
        apps.iter_mut().for_each(|app| app.component.clone_from(component));
    }
    for app in &mut apps {
        app.grants.keyvalue.extend(arguments.grant_keyvalue.iter().cloned());
        app.grants.http.extend(arguments.grant_http.iter().cloned());
        app.instances = 1;
    }
    Ok(apps)
}

/// The apps of a config file, which may name components that are not there yet where another takes their place.
fn configured(file: &Path, component: Option<&Path>) -> Result<Vec<App>> {
    if !file.exists() {
        bail!("there is no {}", file.display());
    }
    let config = Config::load(Some(file), runtime::variables(), |config| {
        if let Some(component) = component {
            config.apps.iter_mut().for_each(|app| app.component = component.into());
        }
        // Components are what is checked, so they have to be there; pages need not.
        config.roles = vec![Role::Frontend, Role::IoNode, Role::AppNode];
    })?;
    if config.apps.is_empty() {
        bail!("{} names no [[app]]", file.display());
    }
    Ok(config.apps)
}

/// Says whether it can run.
async fn check_one(app: &App) -> Result<bool> {
    let file = app.component.display();
    let bytes = std::fs::read(&app.component).with_context(|| format!("cannot read {file}"))?;
    let bytes = Bytes::from(bytes);
    let engine = Engine::new(EngineSettings {
        max_instances: 1,
        max_memory: app.limits.memory,
        cache: None,
        compiler: settings::compiler(),
    })?;
    let key_value = Transport::from(Memory::new(MemorySettings::default())).key_value;
    let app = settings::app(app, &"check".into(), key_value);
    let work = during(|| format!("compiling {file}"), say, start(&engine, bytes.clone(), app)).await;
    let info = ComponentInfo::read(&bytes).ok();
    let asked = info.iter().flat_map(|info| {
        let exports = info.exports.iter().map(|name| format!("  exports  {name}\n"));
        exports.chain(info.imports.iter().map(|name| format!("  imports  {name}\n")))
    });
    let asked: String = asked.collect();
    match work {
        Ok((release, digest)) => print!("{file}: ok\n  release  {release}\n  sha256   {digest}\n{asked}"),
        Err(error) => {
            print!("{file}: refused: {error}\n{asked}");
            return Ok(false);
        }
    }
    Ok(true)
}

/// Loads it and starts an instance, as an app-node does before it takes it into use. Gives its release and digest.
async fn start(engine: &Engine, bytes: Bytes, app: AppSettings) -> Result<(String, String), LoadError> {
    let component = engine.load(bytes, &app.grants).await?;
    let told = (component.release().to_owned(), component.digest().to_string());
    let shutdown = Shutdown::new();
    let pool: Arc<Pool> = Pool::start(engine, component, app, &shutdown).await?;
    pool.retire();
    Ok(told)
}
