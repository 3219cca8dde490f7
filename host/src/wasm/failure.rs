//! Why an event has no effects.

use std::fmt;

use wasmtime::WasmBacktrace;
use wasmtime_wasi::I32Exit;

use crate::message::{EventId, Namespace};

/// Why the handling of an event came to nothing. None of its effects are kept.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The handler asks for another attempt, with this reason.
    #[error("the handler asks for another attempt: {0}")]
    Retry(String),
    /// The handler will never take this event, for this reason.
    #[error("the handler rejects the event: {0}")]
    Reject(String),
    /// The handler trapped, looped, or used too much; another attempt may go better.
    #[error("{0}")]
    Broken(Box<Report>),
}

/// What is known about a call that broke its instance. Displayed as several lines for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The app.
    pub app: Namespace,
    /// The release that ran.
    pub release: String,
    /// The whole SHA-256 of its component, in hexadecimal.
    pub digest: String,
    /// The number of the instance.
    pub instance: u32,
    /// The event.
    pub event: EventId,
    /// Which attempt at it this was.
    pub attempt: u32,
    /// What the event was, such as `message "draw"`.
    pub kind: String,
    /// What ended the call.
    pub cause: String,
    /// Where the handler was, innermost function first; a line each.
    pub backtrace: Vec<String>,
    /// The end of what the handler wrote to standard error during the event.
    pub stderr: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "the handler of {} broke on event {} ({}): {}",
            self.app, self.event, self.kind, self.cause
        )?;
        write!(
            f,
            "  release {} (sha256 {}), instance {}",
            self.release, self.digest, self.instance
        )?;
        write!(f, ", attempt {}", self.attempt)?;
        Ruin::write_details(f, &self.backtrace, &self.stderr)
    }
}

/// What is left of an instance: the part of a report that does not depend on the event.
#[derive(Debug)]
pub(super) struct Ruin {
    pub(super) cause: String,
    pub(super) backtrace: Vec<String>,
    pub(super) stderr: String,
}

impl Ruin {
    /// From what wasmtime says about the end of a call.
    pub(super) fn of(error: &wasmtime::Error, stderr: String) -> Self {
        let cause = match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(code)) => format!("the handler called exit({code})"),
            None => error.root_cause().to_string(),
        };
        let backtrace = error.downcast_ref::<WasmBacktrace>().map(lines).unwrap_or_default();
        Self {
            cause,
            backtrace,
            stderr,
        }
    }

    /// For an end that left no trace in the instance.
    pub(super) fn without_trace(cause: String, stderr: String) -> Self {
        Self {
            cause,
            backtrace: Vec::new(),
            stderr,
        }
    }

    fn write_details(f: &mut fmt::Formatter<'_>, backtrace: &[String], stderr: &str) -> fmt::Result {
        if !backtrace.is_empty() {
            write!(f, "\n  in")?;
            for line in backtrace {
                write!(f, "\n    {line}")?;
            }
        }
        if !stderr.is_empty() {
            write!(f, "\n  standard error")?;
            for line in stderr.lines() {
                write!(f, "\n    {line}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Ruin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)?;
        Self::write_details(f, &self.backtrace, &self.stderr)
    }
}

/// The functions of a backtrace, demangled, with their places in the source where the component has them.
fn lines(backtrace: &WasmBacktrace) -> Vec<String> {
    // The first line of wasmtime's text is a heading.
    backtrace
        .to_string()
        .lines()
        .skip(1)
        .map(|line| line.trim().to_owned())
        .collect()
}
