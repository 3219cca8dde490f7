//! Text of the command line: tables, times, sizes and shares, and text from elsewhere made safe for a terminal. Knows nothing of
//! plugnode.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::Value;

/// Formats rows below their titles, in aligned columns.
pub(super) fn table<const N: usize>(titles: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = std::iter::once(titles.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut table = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

/// Whether a terminal acts on this character instead of showing it: control characters, and those that change the direction of text or
/// break a line.
pub(super) fn is_unprintable(c: char) -> bool {
    let is_bidirectional =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_separator = matches!(c, '\u{2028}' | '\u{2029}');
    c.is_control() || is_bidirectional || is_separator
}

/// Text on one line, with unprintable characters escaped as `\n` or `\u{1b}`.
pub(super) fn plain(text: &str) -> String {
    escaped(text, |c| !is_unprintable(c))
}

/// Text with unprintable characters escaped, except line breaks and tabs.
pub(super) fn plain_lines(text: &str) -> String {
    escaped(text, |c| c == '\n' || c == '\t' || !is_unprintable(c))
}

fn escaped(text: &str, is_kept: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match is_kept(c) {
            true => escaped.push(c),
            false => escaped.extend(c.escape_default()),
        }
    }
    escaped
}

/// Indented JSON, with unprintable characters escaped as JSON escapes them.
pub(super) fn json_page(value: &Value) -> String {
    escaped_json(&format!("{value:#}")).into_owned()
}

/// JSON on one line, with unprintable characters escaped as JSON escapes them.
pub(super) fn json_line(value: &Value) -> String {
    escaped_json(&value.to_string()).into_owned()
}

/// Escapes unprintable characters of a JSON text, of which only strings can have some, besides line breaks between values.
pub(super) fn escaped_json(json: &str) -> Cow<'_, str> {
    let is_kept = |c: char| c == '\n' || !is_unprintable(c);
    if json.chars().all(is_kept) {
        return json.into();
    }
    let mut escaped = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        match is_kept(c) {
            true => escaped.push(c),
            // All of them are in the basic plane: one escape each.
            false => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(c));
            }
        }
    }
    escaped.into()
}

/// The first line of a text, with unprintable characters escaped.
pub(super) fn first_line(text: &str) -> String {
    plain(text.lines().next().unwrap_or_default())
}

/// Formats milliseconds since the Unix epoch in UTC: `2026-11-05T09:30:00Z`.
pub(super) fn time(ms: u64) -> String {
    let second = i64::try_from(ms / 1_000).ok();
    let time = second.and_then(|second| Timestamp::from_second(second).ok());
    time.unwrap_or(Timestamp::MAX)
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

/// Parses a time in UTC as [`time`] formats it, to milliseconds since the Unix epoch. Seconds, or the time of day, are optional.
pub(super) fn parse_time(text: &str) -> Option<u64> {
    let time: DateTime = text.strip_suffix('Z').unwrap_or(text).parse().ok()?;
    let time = TimeZone::UTC.to_timestamp(time).ok()?;
    time.as_millisecond().try_into().ok()
}

/// Formats the age of a time: `3 min ago`.
pub(super) fn ago(at_ms: u64, now_ms: u64) -> String {
    // Zero for a time in the future: clocks of two machines differ.
    let seconds = now_ms.saturating_sub(at_ms) / 1_000;
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// Formats a duration in seconds: `1.2 s`.
pub(super) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Formats microseconds in milliseconds: `0.2 ms`.
pub(super) fn milliseconds(us: u64) -> String {
    format!("{:.1} ms", us as f64 / 1_000.0)
}

/// Formats a number of bytes: `2.4 MB`.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Parses a duration: `2m`, `90s`, `500ms`.
pub(super) fn parse_span(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text[..text.len() - unit.len()].parse().unwrap_or(0);
    let ms = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" | "min" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => None,
    };
    let ms = ms.filter(|ms| *ms > 0);
    ms.map(Duration::from_millis)
        .ok_or_else(|| "is not a duration such as 2m, 90s or 500ms".to_owned())
}

/// Parses a percentage: `10%` or `10`.
pub(super) fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>();
    let number = number.ok().filter(|number| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| "is not a share such as 10%".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_parses_calendar_times() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(time(seconds * 1_000), expected);
            assert_eq!(parse_time(expected), Some(seconds * 1_000));
        }
    }

    #[test]
    fn refuses_invalid_times() {
        assert_eq!(parse_time("2000-02-29"), Some(951_782_400_000));
        assert_eq!(parse_time("2000-02-29T00:01"), Some(951_782_460_000));
        for text in [
            "",
            "T",
            "2001-02-29",
            "2000-13-01",
            "2000-2-1",
            "2000-02-01T24:00:00Z",
            "+200-02-01",
            "1969-12-31T00:00:00Z",
            "99999-01-01",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn escapes_characters_that_a_terminal_acts_on() {
        assert_eq!(plain("ä\u{1b}[2J\n\u{9b}x"), "ä\\u{1b}[2J\\n\\u{9b}x");
        assert_eq!(
            plain("a\u{202e}b\u{2066}\u{200f}\u{2028}"),
            r"a\u{202e}b\u{2066}\u{200f}\u{2028}"
        );
        assert_eq!(plain("👩\u{200d}🚀 ש"), "👩\u{200d}🚀 ש", "letters and emoji stay");
        assert_eq!(plain_lines("a\n\tb\r"), "a\n\tb\\r");
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        let value = serde_json::json!({ "a\u{202e}": "\u{9b}\u{7f}\n", "b": [1] });
        for text in [json_line(&value), json_page(&value)] {
            assert!(!text.contains(|c| c != '\n' && is_unprintable(c)), "{text}");
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
    }

    #[test]
    fn parses_durations_and_percentages() {
        for (text, ms) in [
            ("500ms", 500),
            ("90s", 90_000),
            ("2m", 120_000),
            ("2min", 120_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(parse_span(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "m", "0s", "-1s", "1.5m", "2 m", "99999999999999999999h"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
        assert_eq!(parse_percent("10%"), Ok(10.0));
        assert_eq!(parse_percent("0.5"), Ok(0.5));
        for text in ["", "%", "ten", "-1%", "NaN", "inf"] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn older_ages_have_larger_units() {
        for (seconds, words) in [
            (5, "5 s ago"),
            (200, "3 min ago"),
            (7_300, "2 h ago"),
            (200_000, "2 days ago"),
        ] {
            assert_eq!(ago(1_000, 1_000 + seconds * 1_000), words);
        }
        assert_eq!(ago(5_000, 1_000), "0 s ago");
    }
}
