//! Why an event has no effects: failures, and traps with their reports.

use std::fmt;

use wasmtime::WasmBacktrace;
use wasmtime_wasi::I32Exit;

use crate::state::HostFailure;
use plugnode_message::{EventId, Namespace};

/// Why the handling of an event failed. None of its effects are kept.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The handler asks for a retry, for this reason.
    #[error("the handler asks for a retry: {0}")]
    Retry(String),
    /// The handler rejects the event for good, for this reason.
    #[error("the handler failed: {0}")]
    Reject(String),
    /// A host call failed because something that the host depends on is unavailable. The event is not at fault; a retry
    /// succeeds once it is available again.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The event reads more than the host can deliver within its time limit.
    #[error("{0}")]
    ReadsTooMuch(String),
    /// The transport refuses to commit the effects.
    #[error("its effects cannot be committed: {0}")]
    Uncommittable(String),
    /// The handler trapped, or exceeded its time or memory. A retry may succeed.
    #[error("{0}")]
    Trap(Box<TrapReport>),
}

/// Longest reason in the log, in characters.
const MAX_LOGGED: usize = 1_000;
/// Longest reason in a dead letter, in bytes.
const MAX_KEPT: usize = 4_096;

impl Failure {
    /// The kind of failure, as a fixed word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Retry(_) => "retry",
            Self::Reject(_) => "rejected",
            Self::Unavailable(_) => "unavailable",
            Self::ReadsTooMuch(_) => "too much",
            Self::Uncommittable(_) => "uncommittable",
            Self::Trap(_) => "trap",
        }
    }

    /// The reason to keep with a dead letter. A handler's own reason is cut off at 4 KiB.
    pub fn for_dead_letter(&self) -> String {
        let mut reason = self.to_string();
        if !matches!(self, Self::Trap(_)) && reason.len() > MAX_KEPT {
            reason.truncate(reason.floor_char_boundary(MAX_KEPT));
            reason.push('…');
        }
        reason
    }

    /// The reason to log. A handler's reason may contain text from clients, so it becomes one line of bounded length.
    pub fn for_log(&self) -> String {
        let reason = match self {
            Self::Trap(report) => return report.to_string(),
            other => other.to_string(),
        };
        let mut line: String = reason.chars().take(MAX_LOGGED).flat_map(escaped).collect();
        if reason.chars().nth(MAX_LOGGED).is_some() {
            line.push_str(&format!("… ({} bytes)", reason.len()));
        }
        line
    }
}

/// Escapes control characters, which could end or rewrite a line.
fn escaped(character: char) -> impl Iterator<Item = char> {
    let (plain, escape) = match character.is_control() {
        true => (None, Some(character.escape_default())),
        false => (Some(character), None),
    };
    plain.into_iter().chain(escape.into_iter().flatten())
}

/// Report on a trap. Displayed as several lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrapReport {
    /// The app.
    pub app: Namespace,
    /// The release that trapped: the first 12 digits of its component's SHA-256.
    pub release: String,
    /// SHA-256 of its component, in hexadecimal.
    pub digest: String,
    /// Number of the instance.
    pub instance: u32,
    /// The event.
    pub event: EventId,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Kind of the event, such as `message "draw"`.
    pub kind: String,
    /// Cause of the trap.
    pub cause: String,
    /// Backtrace, innermost function first, one line each.
    pub backtrace: Vec<String>,
    /// The last 4 KiB that the handler wrote to standard error during the event.
    pub stderr: String,
}

impl fmt::Display for TrapReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "the handler of {} trapped on event {} ({}): {}",
            self.app, self.event, self.kind, self.cause
        )?;
        write!(
            f,
            "  release {} (sha256 {}), instance {}",
            self.release, self.digest, self.instance
        )?;
        write!(f, ", attempt {}", self.attempt)?;
        Trap::write_details(f, &self.backtrace, &self.stderr)
    }
}

/// The end of a call that leaves its instance unusable: a trap, a native panic, or a time-out.
#[derive(Debug)]
pub(crate) struct Trap {
    pub(crate) cause: String,
    pub(crate) backtrace: Vec<String>,
    pub(crate) stderr: String,
    /// A failure of the host earlier in the call, which may be the cause.
    pub(crate) host_failure: Option<HostFailure>,
}

impl Trap {
    /// From wasmtime's error. Of a script, wasmtime knows only the functions of its runtime, which are left out.
    pub(crate) fn new(error: &wasmtime::Error, stderr: String, is_script: bool) -> Self {
        let cause = match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(code)) => format!("the handler called exit({code})"),
            None => error.root_cause().to_string(),
        };
        let backtrace = error.downcast_ref::<WasmBacktrace>().filter(|_| !is_script);
        let backtrace = backtrace.map(lines).unwrap_or_default();
        Self {
            cause,
            backtrace,
            stderr,
            host_failure: None,
        }
    }

    /// Without a backtrace.
    pub(crate) fn without_backtrace(cause: String, stderr: String) -> Self {
        Self {
            cause,
            backtrace: Vec::new(),
            stderr,
            host_failure: None,
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

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)?;
        Self::write_details(f, &self.backtrace, &self.stderr)
    }
}

/// The functions of a backtrace with their offsets in the component, as `faults::spin (0x1d734)`.
fn lines(backtrace: &WasmBacktrace) -> Vec<String> {
    // Only wasmtime's own text contains demangled names: a heading, and lines like `0: 0x1d734 - module!function`.
    backtrace.to_string().lines().skip(1).map(short_line).collect()
}

fn short_line(line: &str) -> String {
    let line = line.trim();
    let Some((offset, function)) = line.split_once(" - ") else {
        return line.to_owned();
    };
    let offset = offset.rsplit(' ').next().unwrap_or(offset);
    let function = function
        .split_once('!')
        .map_or(function, |(_module, function)| function);
    format!("{} ({offset})", without_hashes(function))
}

/// A function's name without the hash that the Rust compiler adds, which differs from build to build: `::h` or brackets, and
/// 16 digits.
fn without_hashes(function: &str) -> String {
    const DIGITS: usize = 16;
    let is_hash = |text: &str| text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let function = match function.rsplit_once("::h") {
        Some((function, hash)) if is_hash(hash) => function,
        _ => function,
    };
    let mut parts = function.split('[');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(']') {
            Some((hash, rest)) if is_hash(hash) => name.push_str(rest),
            _ => {
                name.push('[');
                name.push_str(part);
            }
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logged_reason_is_one_bounded_line() {
        let reject = |reason: &str| Failure::Reject(reason.into()).for_log();
        let line = reject("no event `x\n2026-11-30 ERROR all is lost\u{1b}[2J`");
        assert_eq!(
            line,
            "the handler failed: no event `x\\n2026-11-30 ERROR all is lost\\u{1b}[2J`"
        );
        let kept = Failure::Reject("ä".repeat(900_000)).for_dead_letter();
        assert!(kept.len() < 4_200 && kept.ends_with("ä…"), "{} bytes", kept.len());
        let line = reject(&"ä".repeat(900_000));
        assert!(
            line.len() < 2_100 && line.ends_with("… (1800031 bytes)"),
            "{} bytes",
            line.len()
        );
    }

    #[test]
    fn backtrace_lines_have_plain_function_names() {
        let lines = [
            (
                "    0:  0x1d734 - faulty.wasm!faulty::faults::spin::h26c5d0d808d4653d",
                "faulty::faults::spin (0x1d734)",
            ),
            (
                "   11:  0x3df4c - app.wasm!std[390ecf3ee8bcda14]::process::abort",
                "std::process::abort (0x3df4c)",
            ),
            (
                "    2:   0x15e9f - <unknown>!<wasm function 3>",
                "<wasm function 3> (0x15e9f)",
            ),
            (
                "    3:   0x1 - m!plugnode:app/handler@0.1.0#handle",
                "plugnode:app/handler@0.1.0#handle (0x1)",
            ),
            (
                "    4:   0x2 - m!core::slice::<impl [T]>::get",
                "core::slice::<impl [T]>::get (0x2)",
            ),
            ("something else", "something else"),
        ];
        for (line, expected) in lines {
            assert_eq!(short_line(line), expected);
        }
    }
}
