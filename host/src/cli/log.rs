//! The log: lines on standard error, for people or for machines.
//!
//! Some hold what clients have sent. Whatever that is, no line of it can be taken for one of ours.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};

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
    let is_coloured = settings.format == LogFormat::Text && io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || Lines { is_coloured });
    let set = match settings.format {
        LogFormat::Text => lines.with_ansi(is_coloured).try_init(),
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

/// Standard error, to which one event is written at a time.
struct Lines {
    /// Whether escapes that set colours are ours.
    is_coloured: bool,
}

impl io::Write for Lines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(event) {
            Ok(text) => io::stderr().write_all(tamed(text, self.is_coloured).as_bytes())?,
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
