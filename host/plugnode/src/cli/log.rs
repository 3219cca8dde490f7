//! The log: lines on standard error, for people or for machines.
//!
//! Some hold what clients have sent. Whatever that is, no line of it can be taken for one of ours. Each line for a
//! machine says which process it is of: its node, role and version. What ends the process is such a line as well.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Result, anyhow};
use tracing_subscriber::EnvFilter;

use plugnode_server::config::{Config, Log, LogFormat, LogLevel, Role};
use plugnode_server::settings;

/// Whether lines are for machines.
static IS_FOR_MACHINES: AtomicBool = AtomicBool::new(false);
/// Changes the level.
static RELEVEL: OnceLock<Box<dyn Fn(EnvFilter) -> Result<()> + Send + Sync>> = OnceLock::new();

/// The lines of handlers, and what is wrong elsewhere.
const HANDLERS: &str = "warn,redis=off,plugnode::wasm::output=info,plugnode::wasm::capability::logging=info";

/// Sets the log up, once, for a verb. `RUST_LOG` wins over the level of the settings.
pub(super) fn init(settings: &Log) -> Result<()> {
    init_for(settings, "")
}

/// The same for a verb that runs a handler: of the log, what the handler writes. It may have been set up before, for another part
/// of the verb.
pub(super) fn init_for_handlers(settings: &Log) -> Result<()> {
    if RELEVEL.get().is_none() {
        init(settings)?;
    }
    match RELEVEL.get() {
        Some(relevel) if asked_by_variable()?.is_none() => relevel(EnvFilter::new(HANDLERS)),
        _ => Ok(()),
    }
}

/// The same for a process of these roles.
pub(super) fn init_for_node(config: &Config) -> Result<()> {
    init_for(&config.log, &origin(config))
}

fn init_for(settings: &Log, origin: &str) -> Result<()> {
    let filter = match asked_by_variable()? {
        Some(filter) => filter,
        None => EnvFilter::new(directives(settings.level)),
    };
    let is_coloured = settings.format == LogFormat::Text && io::stderr().is_terminal();
    let origin: Arc<str> = match settings.format {
        LogFormat::Text => "".into(),
        LogFormat::Json => origin.into(),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || Lines {
            is_coloured,
            origin: origin.clone(),
        });
    let set = match settings.format {
        LogFormat::Text => {
            let lines = lines.with_ansi(is_coloured).with_filter_reloading();
            let handle = lines.reload_handle();
            let _ = RELEVEL.set(Box::new(move |filter| Ok(handle.reload(filter)?)));
            lines.try_init()
        }
        LogFormat::Json => {
            IS_FOR_MACHINES.store(true, Ordering::Relaxed);
            std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let handle = lines.reload_handle();
            let _ = RELEVEL.set(Box::new(move |filter| Ok(handle.reload(filter)?)));
            lines.try_init()
        }
    };
    set.map_err(|error| anyhow!("cannot set up the log: {error}"))
}

/// Writes lines of this level from now on. `RUST_LOG` wins over it.
pub(super) fn set_level(level: LogLevel) -> Result<()> {
    if asked_by_variable()?.is_some() {
        return Ok(());
    }
    match RELEVEL.get() {
        Some(relevel) => relevel(EnvFilter::new(directives(level))),
        None => Ok(()),
    }
}

/// Says what ends the process, as all else is said that it writes.
pub fn fatal(error: &anyhow::Error) {
    match IS_FOR_MACHINES.load(Ordering::Relaxed) {
        true => tracing::error!("{error:#}"),
        false => eprintln!("plugnode: {error:#}"),
    }
}

/// Sets the log up for an error that comes before the configuration is known, if that would ask for lines for machines: as far
/// as its variable or its file can be read.
pub(super) fn init_without_config(file: &std::path::Path) {
    let by_variable = std::env::var("PLUGNODE_LOG__FORMAT").ok();
    let by_file = || {
        let table: toml::Table = std::fs::read_to_string(file).ok()?.parse().ok()?;
        Some(table.get("log")?.get("format")?.as_str()?.to_owned())
    };
    if by_variable.or_else(by_file).as_deref() == Some("json") {
        let log = Log {
            format: LogFormat::Json,
            ..Log::default()
        };
        // The error is told in any case.
        let _ = init_for(&log, &format!("\"version\":{:?},", env!("CARGO_PKG_VERSION")));
    }
}

fn asked_by_variable() -> Result<Option<EnvFilter>> {
    match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => match EnvFilter::try_new(&directives) {
            Ok(filter) => Ok(Some(filter)),
            Err(error) => Err(anyhow!("variable RUST_LOG: `{directives}`: {error}")),
        },
        _ => Ok(None),
    }
}

/// What each line says of its process, as the beginning of an object.
fn origin(config: &Config) -> String {
    let node = match (config.has(Role::IoNode), config.has(Role::AppNode)) {
        (true, _) => settings::io_node_name(&config.io_node),
        (false, true) => settings::app_node_name(&config.app_node),
        (false, false) => settings::frontend_name(),
    };
    let roles = config.roles.iter().map(|role| match role {
        Role::Frontend => "frontend",
        Role::IoNode => "io-node",
        Role::AppNode => "app-node",
    });
    let role = roles.collect::<Vec<_>>().join(",");
    let (node, role) = (serde_json::json!(node.as_str()), serde_json::json!(role));
    format!(
        "\"node\":{node},\"role\":{role},\"version\":{:?},",
        env!("CARGO_PKG_VERSION")
    )
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

/// Standard error, to which one event is written at a time.
struct Lines {
    /// Whether escapes that set colours are ours.
    is_coloured: bool,
    /// What stands behind the brace that an event begins with, if it is an object.
    origin: Arc<str>,
}

impl io::Write for Lines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(event) {
            Ok(text) if self.origin.is_empty() => io::stderr().write_all(tamed(text, self.is_coloured).as_bytes())?,
            // As a whole, so that those of several threads do not mix.
            Ok(text) => {
                let text = tamed(text, false);
                let rest = text.strip_prefix('{').unwrap_or(&text);
                io::stderr().write_all(["{", &self.origin, rest].concat().as_bytes())?;
            }
            Err(_) => io::stderr().write_all(event)?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// An event whose further lines are indented, and that holds no characters that a terminal obeys.
fn tamed(event: &str, is_coloured: bool) -> Cow<'_, str> {
    let is_meant = |c: char| c == '\t' || (c == '\u{1b}' && is_coloured);
    let within = event.strip_suffix('\n').unwrap_or(event);
    if !within.contains(|c: char| c.is_control() && !is_meant(c)) {
        return Cow::Borrowed(event);
    }
    let mut tame = String::with_capacity(event.len() + 64);
    let mut rest = within.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\n' if rest.peek() == Some(&' ') => tame.push('\n'),
            '\n' => tame.push_str("\n  "),
            c if c.is_control() && !is_meant(c) => {
                let _ = write!(tame, "{}", c.escape_default());
            }
            c => tame.push(c),
        }
    }
    tame.push('\n');
    tame.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_an_event_can_be_taken_for_another() {
        for (event, tame) in [
            ("plain\n", "plain\n"),
            ("a\tb\n", "a\tb\n"),
            ("a\n2026 ERROR b\n", "a\n  2026 ERROR b\n"),
            ("a\n\nb\n", "a\n  \n  b\n"),
            ("a\n    in b\n", "a\n    in b\n"),
            ("a\rb\u{1b}[2J\u{9b}c\n", "a\\rb\\u{1b}[2J\\u{9b}c\n"),
        ] {
            assert_eq!(tamed(event, false), tame);
        }
        assert_eq!(tamed("\u{1b}[32mINFO\u{1b}[0m\n", true), "\u{1b}[32mINFO\u{1b}[0m\n");
    }
}
