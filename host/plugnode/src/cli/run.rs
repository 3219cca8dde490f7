//! `plugnode run`: runs the roles of a config file, until a signal ends the process.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::{Result, bail};

use super::cluster::missing_config;
use super::node::Node;
use super::redeploy::WatchedFile;
use super::reload::Reload;
use super::signals::{self, LameDuck};
use super::{log, private_files, runtime};
use plugnode_process::shutdown::Shutdown;
use plugnode_server::config::{Config, Role};
use plugnode_transport::{LeaseHealth, Transport};

/// Arguments of `plugnode run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Config file; docs/configuration.md explains every key
    #[arg(short, long, value_name = "FILE", default_value = "plugnode.toml")]
    pub config: PathBuf,
    /// Run this role instead of those in the file; repeatable [default: the roles of the file]
    #[arg(long = "role", value_name = "ROLE", value_enum)]
    pub roles: Vec<Role>,
}

/// Runs until a signal ends the process.
pub(super) fn run(args: &RunArgs) -> Result<ExitCode> {
    run_over(args, |transport| transport)
}

/// `plugnode run` with the configured transport wrapped by `over`, such as by one that observes it or injects faults.
pub fn run_over(args: &RunArgs, over: impl FnOnce(Transport) -> Transport) -> Result<ExitCode> {
    let file = &args.config;
    if !file.exists() {
        bail!(
            "{}, or write one: docs/configuration.md explains every key",
            missing_config(file)
        );
    }
    let config = Config::load(Some(file), runtime::variables(), |config| {
        if !args.roles.is_empty() {
            config.roles.clone_from(&args.roles);
        }
    });
    let config = config.inspect_err(|_| log::init_without_config(file))?;
    log::init_for_node(&config)?;
    private_files::warn(&config, file);
    runtime::raise_open_files(config.http.max_connections);
    runtime::block_on(async {
        let shutdown = Shutdown::new();
        let lame_duck = LameDuck {
            time: config.shutdown.lame_duck,
            ..LameDuck::default()
        };
        let is_serving = lame_duck.is_serving.clone();
        signals::begin_shutdown_by_signal(&shutdown, lame_duck)?;
        let mut lease_health = LeaseHealth::default();
        let reload = Reload::new(file.clone(), args.roles.clone(), config.clone())?;
        let watched_files = WatchedFile::all(&config)?;
        tokio::select! {
            node = Node::start_over(&config, &shutdown, over) => {
                let node = node?;
                is_serving.store(node.address.is_some(), Ordering::Relaxed);
                lease_health = node.transport.nodes.lease_health();
                shutdown.spawn(reload.run(node.reloadable.clone(), shutdown.clone()));
                for file in watched_files {
                    shutdown.spawn(file.deploy(node.transport.operations(), shutdown.clone()));
                }
            }
            // The start may be waiting for Redis; no work is in progress yet.
            () = shutdown.begun() => {}
        }
        let deadline = config.shutdown.deadline;
        Ok(runtime::drain(&shutdown, deadline, &lease_health).await)
    })
}
