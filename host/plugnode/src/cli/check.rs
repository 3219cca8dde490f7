//! `plugnode check`: checks that a component can run here, by compiling and starting it, and lists its imports and exports. It gets no
//! event.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use bytes::Bytes;

use super::cluster::{self, DEFAULT_CONFIG};
use super::component_file;
use super::runtime;
use super::terminal::{during, say};
use plugnode_process::shutdown::Shutdown;
use plugnode_runtime::{AppSettings, ComponentInfo, Engine, EngineSettings, LoadError, Pool};
use plugnode_server::config::{App, Config, Role};
use plugnode_server::roles::app_node::compiler;
use plugnode_transport::{Memory, Transport, TransportSettings};

/// Arguments of `plugnode check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plugnode check chat.wasm                          without grants
  plugnode check chat.wasm --grant-keyvalue default
  plugnode check -c plugnode.toml                   the config file, and the components of all its apps
  plugnode check next.wasm -c plugnode.toml         another component, with the settings of the app in the config file

The exit code is 0 if all components can run.")]
pub struct CheckArgs {
    /// File of the component; optional with --config
    #[arg(value_name = "APP.wasm", required_unless_present = "config")]
    pub component: Option<PathBuf>,
    /// Config file; its apps' grants, limits and settings are used
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Namespace of the app in the config file; optional if it has only one app
    #[arg(long, value_name = "NAMESPACE", requires = "config")]
    pub app: Option<String>,
    /// Grant this key-value bucket; repeatable
    #[arg(long, value_name = "BUCKET")]
    pub grant_keyvalue: Vec<String>,
    /// Grant HTTP requests to this host; repeatable
    #[arg(long, value_name = "HOST")]
    pub grant_http: Vec<String>,
}

/// Checks all components and prints the results. The exit code is success if all can run.
pub(super) fn check(args: &CheckArgs) -> Result<ExitCode> {
    let apps = apps(args)?;
    runtime::block_on(async {
        let mut all_ok = true;
        for app in &apps {
            all_ok &= check_one(app, settings_beside(args)).await?;
        }
        Ok(if all_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// The config file beside the component, or in this folder, if none is named.
fn settings_beside(args: &CheckArgs) -> Option<PathBuf> {
    let component = args.component.as_ref().filter(|_| args.config.is_none())?;
    let files = [component.with_file_name(DEFAULT_CONFIG), DEFAULT_CONFIG.into()];
    files.into_iter().find(|file| file.is_file())
}

/// The components to check, with their settings.
fn apps(args: &CheckArgs) -> Result<Vec<App>> {
    let mut apps = match &args.config {
        Some(file) => configured(file, args.component.as_deref())?,
        None => vec![App::default()],
    };
    if let Some(name) = &args.app {
        apps.retain(|app| app.namespace == *name);
        if apps.is_empty() {
            bail!("the config file has no app {name}; name one of its apps by --app");
        }
    }
    if let Some(component) = &args.component {
        if apps.len() > 1 {
            bail!("the config file has several apps; name one by --app");
        }
        apps.iter_mut().for_each(|app| app.component.clone_from(component));
    }
    for app in &mut apps {
        app.handler.grants.keyvalue.extend(args.grant_keyvalue.iter().cloned());
        app.handler.grants.http.extend(args.grant_http.iter().cloned());
        app.handler.instances = 1;
    }
    Ok(apps)
}

/// The apps of a config file, with `component` in place of theirs if it is given: theirs then need not exist.
fn configured(file: &Path, component: Option<&Path>) -> Result<Vec<App>> {
    cluster::require_config(file)?;
    let config = Config::load(Some(file), runtime::variables(), |config| {
        if let Some(component) = component {
            config.apps.iter_mut().for_each(|app| app.component = component.into());
        }
        // With the role app-node, components have to exist.
        config.roles = vec![Role::Frontend, Role::IoNode, Role::AppNode];
    })?;
    if config.apps.is_empty() {
        bail!(
            "{} has no [[app]]; add one, or name a component without -c",
            file.display()
        );
    }
    Ok(config.apps)
}

/// Checks one component and prints the result. Returns whether it can run. If a grant is missing, names the file `unread`, which may have it.
async fn check_one(app: &App, unread: Option<PathBuf>) -> Result<bool> {
    let file = app.component.display();
    let bytes = Bytes::from(component_file::read(&app.component)?);
    let engine = Engine::new(EngineSettings {
        max_instances: 1,
        max_memory: app.handler.limits.memory,
        cache: None,
        compiler: compiler(),
    })?;
    let key_value = Transport::from(Memory::new(TransportSettings::default())).key_value;
    let app = app.settings(&"check".into(), key_value);
    let started = during(|| format!("compiling {file}"), say, start(&engine, bytes.clone(), app)).await;
    let info = ComponentInfo::read(&bytes).ok();
    let interfaces = info.iter().flat_map(|info| {
        let exports = info.exports.iter().map(|name| format!("  exports  {name}\n"));
        exports.chain(info.imports.iter().map(|name| format!("  imports  {name}\n")))
    });
    let interfaces: String = interfaces.collect();
    match started {
        Ok((release, digest)) => print!("{file}: ok\n  release  {release}\n  sha256   {digest}\n{interfaces}"),
        Err(error) => {
            print!("{file}: refused: {error}\n{interfaces}");
            if let (LoadError::NotGranted { .. }, Some(unread)) = (error, unread) {
                println!("  to check it with the grants of {0}, add -c {0}", unread.display());
            }
            return Ok(false);
        }
    }
    Ok(true)
}

/// Compiles the component and starts an instance, as an app-node does. Returns its release and digest.
pub(super) async fn start(engine: &Engine, bytes: Bytes, app: AppSettings) -> Result<(String, String), LoadError> {
    let component = engine.load(bytes, &app.handler.grants).await?;
    let names = (component.release().to_owned(), component.digest().to_string());
    let shutdown = Shutdown::new();
    let pool: Arc<Pool> = Pool::start(engine, component, app, &shutdown).await?;
    pool.retire();
    Ok(names)
}
