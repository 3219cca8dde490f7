//! `plugnode run`: the roles that a config file names, until a signal ends them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};

use super::node::Node;
use super::redeploy::Watched;
use super::{log, runtime, signals};
use crate::config::{Config, Role};
use crate::shutdown::Shutdown;
use crate::transport::Transport;

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
pub fn run_over(
    arguments: &Arguments,
    over: impl FnOnce(Arc<dyn Transport>) -> Arc<dyn Transport>,
) -> Result<ExitCode> {
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
    })?;
    log::init(&config.log)?;
    runtime::raise_open_files(config.http.max_connections);
    runtime::block_on(async {
        let shutdown = Shutdown::new();
        signals::begin_shutdown_by_signal(&shutdown)?;
        let watched = Watched::all(&config)?;
        tokio::select! {
            node = Node::start_over(&config, &shutdown, over) => {
                let node = node?;
                for file in watched {
                    shutdown.spawn(file.deploy(node.transport.clone(), shutdown.clone()));
                }
            }
            // A start may wait for Redis, and so has nothing in hand yet.
            () = shutdown.begun() => {}
        }
        Ok(runtime::drain(&shutdown, Duration::from_millis(config.shutdown.deadline_ms)).await)
    })
}
