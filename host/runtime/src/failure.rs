//! Why an event has no effects.

use std::fmt;

use wasmtime::WasmBacktrace;
use wasmtime_wasi::I32Exit;

use super::state::Absence;
use plugnode_message::{EventId, Namespace};

/// Why the handling of an event came to nothing. None of its effects are kept.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The handler asks for another attempt, with this reason.
    #[error("the handler asks for another attempt: {0}")]
    Retry(String),
    /// The handler will never take this event, for this reason.
    #[error("the handler rejects the event: {0}")]
    Reject(String),
    /// The host could not give the handler what it is entitled to. It is no fault of the event, and another attempt will
    /// go better when that is over.
    #[error("not to be had for now: {0}")]
    Unavailable(String),
    /// The host gave the handler all that it has, and yet not in its time: it asked for too much.
    #[error("{0}")]
    TooMuch(String),
    /// What the handler has written cannot be committed.
    #[error("its effects cannot be committed: {0}")]
    Uncommittable(String),
    /// The handler trapped, looped, or used too much; another attempt may go better.
    #[error("{0}")]
    Broken(Box<Report>),
}

/// The most characters of a reason that are put into the log.
const SHOWN: usize = 1_000;
/// The most bytes of one that are kept with a dead letter.
const KEPT: usize = 4_096;

impl Failure {
    /// What it is, in a word that no client and no handler chooses.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Retry(_) => "retry",
            Self::Reject(_) => "rejected",
            Self::Unavailable(_) => "unavailable",
            Self::TooMuch(_) => "too much",
            Self::Uncommittable(_) => "uncommittable",
            Self::Broken(_) => "broken",
        }
    }

    /// What is kept of it with a dead letter: a reason of a handler's own is cut.
    pub fn kept(&self) -> String {
        let mut reason = self.to_string();
        if !matches!(self, Self::Broken(_)) && reason.len() > KEPT {
            reason.truncate(reason.floor_char_boundary(KEPT));
            reason.push('…');
        }
        reason
    }

    /// What the log says of it. A handler's reason may hold what a client has sent, so it is one line that is not too long.
    pub fn in_log(&self) -> String {
        let reason = match self {
            Self::Broken(report) => return report.to_string(),
            other => other.to_string(),
        };
        let mut shown: String = reason.chars().take(SHOWN).flat_map(escaped).collect();
        if reason.chars().nth(SHOWN).is_some() {
            shown.push_str(&format!("… ({} bytes)", reason.len()));
        }
        shown
    }
}

/// A character as it is, unless it would end or rewrite a line.
fn escaped(character: char) -> impl Iterator<Item = char> {
    let (plain, escape) = match character.is_control() {
        true => (None, Some(character.escape_default())),
        false => (Some(character), None),
    };
    plain.into_iter().chain(escape.into_iter().flatten())
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
    /// What the host could not give before, when that may be why.
    pub(super) absence: Option<Absence>,
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
            absence: None,
        }
    }

    /// For an end that left no trace in the instance.
    pub(super) fn without_trace(cause: String, stderr: String) -> Self {
        Self {
            cause,
            backtrace: Vec::new(),
            stderr,
            absence: None,
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

/// The functions of a backtrace and their places in the component, as `faults::spin (0x1d734)`.
fn lines(backtrace: &WasmBacktrace) -> Vec<String> {
    // Only wasmtime's own text has demangled names in it: a heading, and lines like `0: 0x1d734 - module!function`.
    backtrace.to_string().lines().skip(1).map(tidy).collect()
}

fn tidy(line: &str) -> String {
    let line = line.trim();
    let Some((place, function)) = line.split_once(" - ") else {
        return line.to_owned();
    };
    let place = place.rsplit(' ').next().unwrap_or(place);
    let function = function
        .split_once('!')
        .map_or(function, |(_module, function)| function);
    format!("{} ({place})", without_hashes(function))
}

/// A function's name without what the Rust compiler adds to tell builds apart: `::h` or brackets, with 16 digits.
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
    fn reasons_are_one_short_line_in_the_log() {
        let reject = |reason: &str| Failure::Reject(reason.into()).in_log();
        let line = reject("no event `x\n2026-11-30 ERROR all is lost\u{1b}[2J`");
        assert_eq!(
            line,
            "the handler rejects the event: no event `x\\n2026-11-30 ERROR all is lost\\u{1b}[2J`"
        );
        let kept = Failure::Reject("ä".repeat(900_000)).kept();
        assert!(kept.len() < 4_200 && kept.ends_with("ä…"), "{} bytes", kept.len());
        let line = reject(&"ä".repeat(900_000));
        assert!(
            line.len() < 2_100 && line.ends_with("… (1800031 bytes)"),
            "{} bytes",
            line.len()
        );
    }

    #[test]
    fn a_line_of_a_backtrace_is_a_name_that_a_person_knows() {
        let tidied = [
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
        for (line, expected) in tidied {
            assert_eq!(tidy(line), expected);
        }
    }
}
