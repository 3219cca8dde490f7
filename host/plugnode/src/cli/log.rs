//! The log on standard error: lines of text, or of JSON.
//!
//! Log messages may contain text from clients. It cannot forge a log line: further lines of a message are indented, and unprintable
//! characters are escaped. Each JSON line has the node, roles and version of its process. The error that ends a process is logged too.

use std::borrow::Cow;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Result, anyhow};
use tracing_subscriber::EnvFilter;

use super::format::{escaped_json, is_unprintable};
use super::terminal;
use plugnode_server::config::{Config, Log, LogFormat, LogLevel, Role};
use plugnode_server::roles::node_name;

/// Whether the format is JSON.
static IS_JSON: AtomicBool = AtomicBool::new(false);
/// Replaces the filter.
static SET_FILTER: OnceLock<Box<dyn Fn(EnvFilter) -> Result<()> + Send + Sync>> = OnceLock::new();

/// Filter for output of handlers, and warnings of plugnode.
const HANDLERS: &str = "warn,redis=off,plugnode::wasm::output=info,plugnode::wasm::capability::logging=info";

/// Initializes the log, once, for a command. `RUST_LOG` overrides the configured level.
pub(super) fn init(settings: &Log) -> Result<()> {
    init_for(settings, "")
}

/// Initializes the log for a command that runs a handler: only the handler's output and warnings are logged. The log may have been
/// initialized before.
pub(super) fn init_for_handlers(settings: &Log) -> Result<()> {
    if SET_FILTER.get().is_none() {
        init(settings)?;
    }
    match SET_FILTER.get() {
        Some(set_filter) if filter_by_variable()?.is_none() => set_filter(EnvFilter::new(HANDLERS)),
        _ => Ok(()),
    }
}

/// Initializes the log for a node.
pub(super) fn init_for_node(config: &Config) -> Result<()> {
    init_for(&config.log, &origin(config))
}

fn init_for(settings: &Log, origin: &str) -> Result<()> {
    let filter = match filter_by_variable()? {
        Some(filter) => filter,
        None => EnvFilter::new(directives(settings.level)),
    };
    let is_coloured = settings.format == LogFormat::Text && io::stderr().is_terminal();
    let origin: Option<Arc<str>> = match settings.format {
        LogFormat::Text => None,
        LogFormat::Json => Some(origin.into()),
    };
    let subscriber = tracing_subscriber::fmt()
        // It would report a failed write on the same standard error, by `eprintln`, which panics once nobody reads that.
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(move || Writer {
            is_coloured,
            origin: origin.clone(),
        });
    let result = match settings.format {
        LogFormat::Text => {
            let subscriber = subscriber.with_ansi(is_coloured).with_filter_reloading();
            let handle = subscriber.reload_handle();
            let _ = SET_FILTER.set(Box::new(move |filter| Ok(handle.reload(filter)?)));
            subscriber.try_init()
        }
        LogFormat::Json => {
            IS_JSON.store(true, Ordering::Relaxed);
            std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
            let subscriber = subscriber.json().flatten_event(true).with_filter_reloading();
            let handle = subscriber.reload_handle();
            let _ = SET_FILTER.set(Box::new(move |filter| Ok(handle.reload(filter)?)));
            subscriber.try_init()
        }
    };
    result.map_err(|error| anyhow!("cannot initialize the log: {error}"))
}

/// Changes the level. Has no effect if `RUST_LOG` is set.
pub(super) fn set_level(level: LogLevel) -> Result<()> {
    if filter_by_variable()?.is_some() {
        return Ok(());
    }
    match SET_FILTER.get() {
        Some(set_filter) => set_filter(EnvFilter::new(directives(level))),
        None => Ok(()),
    }
}

/// Writes the error that ends the process, in the format of the log.
pub(super) fn fatal(error: &anyhow::Error) {
    match IS_JSON.load(Ordering::Relaxed) {
        true => tracing::error!("{error:#}"),
        false => terminal::say(&format!("{error:#}")),
    }
}

/// Initializes the log for an error of the configuration itself. The format is JSON if the environment variable or the config file, as
/// far as it can be read, says so.
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
        // If this fails, the error is written as text.
        let _ = init_for(&log, &format!("\"version\":{:?},", env!("CARGO_PKG_VERSION")));
    }
}

/// Checks the variable `RUST_LOG`.
pub(super) fn check_variable() -> Result<()> {
    filter_by_variable().map(drop)
}

fn filter_by_variable() -> Result<Option<EnvFilter>> {
    match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => match EnvFilter::try_new(&directives) {
            Ok(filter) => Ok(Some(filter)),
            Err(error) => Err(anyhow!("variable RUST_LOG: `{directives}`: {error}")),
        },
        _ => Ok(None),
    }
}

/// Fields of the process, for the beginning of each JSON line.
fn origin(config: &Config) -> String {
    let node = match (config.has(Role::IoNode), config.has(Role::AppNode)) {
        (true, _) => config.io_node.node_name(),
        (false, true) => config.app_node.node_name(),
        (false, false) => node_name(None, "frontend"),
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

/// Filter for a level. Below info, dependencies stay at info. The Redis client is off: it logs each attempt to connect, while the
/// transport logs an outage once. `RUST_LOG` can show all of it.
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

/// Writes log events to standard error, each with one call, so that events of several threads do not mix.
struct Writer {
    /// Whether colour escapes are expected.
    is_coloured: bool,
    /// For JSON: fields to insert at the beginning of each object.
    origin: Option<Arc<str>>,
}

impl io::Write for Writer {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        match (std::str::from_utf8(event), &self.origin) {
            (Ok(text), None) => io::stderr().write_all(sanitized(text, self.is_coloured).as_bytes())?,
            (Ok(json), Some(origin)) => {
                let json = escaped_json(json);
                let rest = json.strip_prefix('{').unwrap_or(&json);
                io::stderr().write_all(["{", origin, rest].concat().as_bytes())?;
            }
            (Err(_), _) => io::stderr().write_all(event)?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Indents further lines of a text event, and escapes unprintable characters.
fn sanitized(event: &str, is_coloured: bool) -> Cow<'_, str> {
    let is_allowed = |c: char| c == '\t' || (c == '\u{1b}' && is_coloured);
    let within = event.strip_suffix('\n').unwrap_or(event);
    if !within.contains(|c: char| is_unprintable(c) && !is_allowed(c)) {
        return Cow::Borrowed(event);
    }
    let mut sanitized = String::with_capacity(event.len() + 64);
    let mut rest = within.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\n' if rest.peek() == Some(&' ') => sanitized.push('\n'),
            '\n' => sanitized.push_str("\n  "),
            c if is_unprintable(c) && !is_allowed(c) => {
                sanitized.extend(c.escape_default());
            }
            c => sanitized.push(c),
        }
    }
    sanitized.push('\n');
    sanitized.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_cannot_forge_a_log_line() {
        for (event, expected) in [
            ("plain\n", "plain\n"),
            ("a\tb\n", "a\tb\n"),
            ("a\n2026 ERROR b\n", "a\n  2026 ERROR b\n"),
            ("a\n\nb\n", "a\n  \n  b\n"),
            ("a\n    in b\n", "a\n    in b\n"),
            ("a\rb\u{1b}[2J\u{9b}c\n", "a\\rb\\u{1b}[2J\\u{9b}c\n"),
            ("a\u{202e}b\n", "a\\u{202e}b\n"),
        ] {
            assert_eq!(sanitized(event, false), expected);
        }
        assert_eq!(
            sanitized("\u{1b}[32mINFO\u{1b}[0m\n", true),
            "\u{1b}[32mINFO\u{1b}[0m\n"
        );
    }
}
