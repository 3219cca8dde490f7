//! Messages of serde and toml in the words of a config file: keys rather than fields, numbers rather than types of Rust.

/// What serde expects, and the words for it.
const EXPECTED: [(&str, &str); 8] = [
    ("a sequence", "a list"),
    ("a map", "a section"),
    ("a string", "a text in quotes"),
    ("a boolean", "true or false"),
    ("u64", "a whole number, 0 or more"),
    ("usize", "a whole number, 0 or more"),
    ("u32", "a whole number from 0 to 4294967295"),
    ("u16", "a whole number from 0 to 65535"),
];
/// What serde has found, and the words for it. The value follows.
const FOUND: [(&str, &str); 6] = [
    ("string ", "the text "),
    ("integer ", "the number "),
    ("floating point ", "the number "),
    ("boolean ", ""),
    ("sequence", "a list"),
    ("map", "a section"),
];

/// Rewrites a message of serde. Messages that it does not know stay as they are.
pub fn in_words(message: &str) -> String {
    if let Some((key, known)) = unknown_key(message) {
        return match nearest(key, &known) {
            Some(nearest) => format!("unknown key `{key}`; did you mean `{nearest}`?"),
            None => format!("unknown key `{key}`; the keys are `{}`", known.join("`, `")),
        };
    }
    let choice = message
        .strip_prefix("unknown variant ")
        .and_then(|rest| rest.split_once(", expected "));
    if let Some((found, choices)) = choice {
        let choices = choices.trim_start_matches("one of ");
        return format!("{found} is not one of {}", choices.replace("` or `", "`, `"));
    }
    wrong_type(message).unwrap_or_else(|| message.into())
}

/// The words for a value of a wrong type.
fn wrong_type(message: &str) -> Option<String> {
    let kinds = ["invalid type: ", "invalid value: "];
    let rest = kinds.iter().find_map(|kind| message.strip_prefix(kind))?;
    let (found, expected) = rest.rsplit_once(", expected ")?;
    let in_words =
        |(kind, words): &(&str, &str)| Some(format!("{words}{}", found.strip_prefix(kind)?.replace('`', "")));
    let found = FOUND.iter().find_map(in_words).unwrap_or_else(|| found.into());
    let expected = match EXPECTED.iter().find(|(kind, _)| *kind == expected) {
        Some((_, words)) => words,
        None if expected.starts_with("struct ") => "a section",
        None => expected,
    };
    Some(format!("is {found}, but must be {expected}"))
}

/// The key that a message calls unknown, and the known ones.
pub(super) fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let (key, known) = message.strip_prefix("unknown field `")?.split_once("`, expected ")?;
    Some((key, known.split('`').skip(1).step_by(2).collect()))
}

/// The known key that a misspelt one most likely means: at most a third of its letters differ.
fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let key = key.to_lowercase().replace('_', "-");
    let distances = known.iter().map(|known| (strsim::levenshtein(&key, known), *known));
    let (distance, nearest) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= key.len() / 3).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_nearest_key_or_all_keys() {
        let message = |key: &str| {
            in_words(&format!(
                "unknown field `{key}`, expected one of `listen`, `max-connections`"
            ))
        };
        assert_eq!(message("lissten"), "unknown key `lissten`; did you mean `listen`?");
        assert_eq!(
            message("max_connections"),
            "unknown key `max_connections`; did you mean `max-connections`?"
        );
        assert_eq!(
            message("threads"),
            "unknown key `threads`; the keys are `listen`, `max-connections`"
        );
        assert_eq!(
            in_words("unknown field `comand`, expected `command` or `output`"),
            "unknown key `comand`; did you mean `command`?"
        );
    }

    #[test]
    fn names_values_without_types_of_rust() {
        for (message, words) in [
            (
                "invalid type: string \"3s\", expected u64",
                "is the text \"3s\", but must be a whole number, 0 or more",
            ),
            (
                "invalid value: integer `99999`, expected u16",
                "is the number 99999, but must be a whole number from 0 to 65535",
            ),
            (
                "invalid type: string \"x\", expected a sequence",
                "is the text \"x\", but must be a list",
            ),
            (
                "invalid type: integer `3`, expected struct Http",
                "is the number 3, but must be a section",
            ),
            (
                "invalid type: boolean `true`, expected a string",
                "is true, but must be a text in quotes",
            ),
            (
                "unknown variant `cook`, expected one of `frontend`, `io-node`, `app-node`",
                "`cook` is not one of `frontend`, `io-node`, `app-node`",
            ),
            (
                "unknown variant `xml`, expected `json` or `msgpack`",
                "`xml` is not one of `json`, `msgpack`",
            ),
            ("is more than 1PB", "is more than 1PB"),
        ] {
            assert_eq!(in_words(message), words);
        }
    }
}
