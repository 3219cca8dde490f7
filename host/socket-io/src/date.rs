//! JavaScript's dates in payloads, although JSON has no dates.
//!
//! A date becomes the string that `JSON.stringify` makes of it, with its first character as a `\u` escape. A handler that
//! parses the JSON gets that string. Payloads that are forwarded unparsed keep the escape, and are encoded as a date again.

/// The milliseconds before or after 1970 that JavaScript's dates can have.
const MAX_MS: u64 = 8_640_000_000_000_000;
const DAY: i64 = 86_400_000;

/// The date `ms` milliseconds after 1970 as JavaScript writes it, without quotes. None if JavaScript has no such date.
pub(crate) fn to_text(ms: i64) -> Option<String> {
    if ms.unsigned_abs() > MAX_MS {
        return None;
    }
    let (year, month, day) = date_of(ms.div_euclid(DAY));
    let time = ms.rem_euclid(DAY);
    let year = match year {
        0..=9_999 => format!("{year:04}"),
        _ => format!("{year:+07}"),
    };
    let (first, rest) = year.split_at(1);
    let first = first.bytes().next().unwrap_or(b'0');
    Some(format!(
        "\\u{first:04x}{rest}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        time / 3_600_000,
        time / 60_000 % 60,
        time / 1_000 % 60,
        time % 1_000,
    ))
}

/// The milliseconds since 1970 of a date, if the string is one that [`to_text`] makes.
pub(crate) fn from_text(text: &str) -> Option<i64> {
    let rest = text.strip_prefix("\\u00")?;
    let first = u8::from_str_radix(rest.get(..2)?, 16).ok()?;
    let (date, time) = rest.get(2..)?.split_once('T')?;
    let date = format!("{}{date}", char::from(first));
    let (year, day) = date.split_at_checked(date.len().checked_sub(6)?)?;
    let number = |text: &str| text.parse::<i64>().ok();
    let days = days_since_1970(number(year)?, number(day.get(1..3)?)?, number(day.get(4..6)?)?)?;
    let [hours, minutes, seconds] = [0, 3, 6].map(|at| number(time.get(at..at + 2)?));
    let ms = number(time.get(9..12)?)?;
    let ms = days * DAY + hours? * 3_600_000 + minutes? * 60_000 + seconds? * 1_000 + ms;
    // Refuses all other spellings.
    (to_text(ms)? == text).then_some(ms)
}

/// Year, month and day in the Gregorian calendar: <https://howardhinnant.github.io/date_algorithms.html>.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, of_month)
}

/// The opposite of [`date_of`]. None for a month or day that no calendar has.
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    if year.abs() > 300_000 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * month + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn writes_dates_as_javascript_does() {
        for (ms, date) in [
            (0, r"\u0031970-01-01T00:00:00.000Z"),
            (-1, r"\u0031969-12-31T23:59:59.999Z"),
            (1_709_210_096_789, r"\u0032024-02-29T12:34:56.789Z"),
            (253_402_300_800_000, r"\u002b010000-01-01T00:00:00.000Z"),
            (-62_167_219_200_001, r"\u002d000001-12-31T23:59:59.999Z"),
            (8_640_000_000_000_000, r"\u002b275760-09-13T00:00:00.000Z"),
            (-8_640_000_000_000_000, r"\u002d271821-04-20T00:00:00.000Z"),
        ] {
            assert_eq!(to_text(ms).as_deref(), Some(date));
            assert_eq!(from_text(date), Some(ms));
        }
        assert_eq!(to_text(8_640_000_000_000_001), None);
        assert_eq!(to_text(i64::MIN), None);
    }

    #[test]
    fn refuses_strings_that_are_no_dates() {
        for text in [
            "",
            "1970-01-01T00:00:00.000Z",
            r"\u0031970-02-30T00:00:00.000Z",
            r"\u0031970-01-01T00:00:00.000z",
            r"\u0031970-01-01T24:00:00.000Z",
            r"\u0031970-01-01T00:00:00.000Zx",
            r"\u0031970-01-01",
            r"\u003é",
            r"\u002b001970-01-01T00:00:00.000Z",
        ] {
            assert_eq!(from_text(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn reads_every_date_that_it_writes(ms in -8_640_000_000_000_000_i64..=8_640_000_000_000_000, text in "\\\\u003[0-9][0-9T:.Z-]{0,30}") {
            prop_assert_eq!(from_text(&to_text(ms).unwrap()), Some(ms));
            let _ = from_text(&text);
        }
    }
}
