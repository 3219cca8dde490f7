//! `plugnode run`: the roles that a config file names, until a signal ends them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::{Result, bail};

use super::node::Node;
use super::redeploy::Watched;
use super::reload::Reload;
use super::signals::{self, LameDuck};
use super::{exposed, log, runtime};
use plugnode_process::shutdown::Shutdown;
use plugnode_server::config::{Config, Role};
use plugnode_transport::{Standing, Transport};

/// Arguments of `plugnode run`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The config file; plugnode.example.toml explains every key
    #[arg(short, long, value_name = "FILE", default_value = "plugnode.toml")]
    pub config: PathBuf,
    /// Only this role, whatever the file says; may be given more than once
    #[arg(long = "role", value_name = "ROLE", value_enum)]
    pub roles: Vec<Role>,
}

/// Runs until the process is told to end.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    run_over(arguments, |transport| transport)
}

/// The same, over what is made of the configured transport: one that observes it, or breaks it for a test.
pub fn run_over(arguments: &Arguments, over: impl FnOnce(Transport) -> Transport) -> Result<ExitCode> {
    let file = &arguments.config;
    if !file.exists() {
        bail!(
            "there is no {}; name the config file by -c (plugnode.example.toml explains every key)",
            file.display()
        );
    }
    let config = Config::load(Some(file), runtime::variables(), |config| {
        if !arguments.roles.is_empty() {
            config.roles.clone_from(&arguments.roles);
        }
    });
    let config = config.inspect_err(|_| log::init_without_config(file))?;
    log::init_for_node(&config)?;
    exposed::warn(&config, file);
    runtime::raise_open_files(config.http.max_connections);
    runtime::block_on(async {
        let shutdown = Shutdown::new();
        let lame_duck = LameDuck {
            time: config.shutdown.lame_duck,
            ..LameDuck::default()
        };
        let is_serving = lame_duck.is_serving.clone();
        signals::begin_shutdown_by_signal(&shutdown, lame_duck)?;
        let mut standing = Standing::default();
        let reload = Reload::new(file.clone(), arguments.roles.clone(), config.clone())?;
        let watched = Watched::all(&config)?;
        tokio::select! {
            node = Node::start_over(&config, &shutdown, over) => {
                let node = node?;
                is_serving.store(node.address.is_some(), Ordering::Relaxed);
                standing = node.transport.nodes.standing();
                shutdown.spawn(reload.run(node.live.clone(), shutdown.clone()));
                for file in watched {
                    shutdown.spawn(file.deploy(node.transport.operations(), shutdown.clone()));
                }
            }
            // A start may wait for Redis, and so has nothing in hand yet.
            () = shutdown.begun() => {}
        }
        let deadline = config.shutdown.deadline;
        Ok(runtime::drain(&shutdown, deadline, &standing).await)
    })
}
