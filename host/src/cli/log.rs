//! The log: lines on standard error, for people or for machines.

use std::io::IsTerminal;

use anyhow::{Result, anyhow};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat, LogLevel};

/// Sets the log up, once. `RUST_LOG` wins over the level of the settings.
pub(super) fn init(settings: &Log) -> Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => {
            EnvFilter::try_new(&directives).map_err(|error| anyhow!("variable RUST_LOG: `{directives}`: {error}"))?
        }
        _ => EnvFilter::new(directives(settings.level)),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let set = match settings.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| anyhow!("cannot set up the log: {error}"))
}

/// The level for ourselves and for handlers. What we stand on talks of itself below info, but for the client of Redis:
/// its every attempt would be told, where the transport tells of an outage once. `RUST_LOG` shows all of it.
fn directives(level: LogLevel) -> String {
    let ours = match level {
        LogLevel::Error => return "error,redis=off".into(),
        LogLevel::Warn => return "warn,redis=off".into(),
        LogLevel::Info => return "info,redis=off".into(),
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    format!("info,redis=off,plugnode={ours}")
}
