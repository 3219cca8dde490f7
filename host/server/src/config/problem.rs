//! Messages of serde and toml in the words of a config file: keys rather than fields, numbers rather than types of Rust.

/// Types of Rust in serde's messages, and their values.
const TYPES: [(&str, &str); 6] = [
    (", expected a sequence", ", expected a list"),
    (", expected a map", ", expected a section"),
    (", expected u64", ", expected a whole number, 0 or more"),
    (", expected usize", ", expected a whole number, 0 or more"),
    (", expected u32", ", expected a whole number from 0 to 4294967295"),
    (", expected u16", ", expected a whole number from 0 to 65535"),
];

/// Rewrites a message of serde. Messages that it does not know stay as they are.
pub fn in_words(message: &str) -> String {
    if let Some((key, known)) = unknown_key(message) {
        return match nearest(key, &known) {
            Some(nearest) => format!("unknown key `{key}`; did you mean `{nearest}`?"),
            None => format!("unknown key `{key}`; the keys are `{}`", known.join("`, `")),
        };
    }
    if message == "invalid type: map, expected a sequence" {
        return "is a section, but must be a list; write the section of an app as [[app]]".into();
    }
    if let Some((found, _)) = message.split_once(", expected struct ") {
        return format!("{found}, expected a section");
    }
    let in_words = TYPES
        .iter()
        .find_map(|(kind, words)| Some(format!("{}{words}", message.strip_suffix(kind)?)));
    in_words.unwrap_or_else(|| message.into())
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
                "invalid type: string \"3s\", expected a whole number, 0 or more",
            ),
            (
                "invalid value: integer `99999`, expected u16",
                "invalid value: integer `99999`, expected a whole number from 0 to 65535",
            ),
            (
                "invalid type: string \"x\", expected a sequence",
                "invalid type: string \"x\", expected a list",
            ),
            (
                "invalid type: integer `3`, expected struct Http",
                "invalid type: integer `3`, expected a section",
            ),
            ("is more than 1PB", "is more than 1PB"),
        ] {
            assert_eq!(in_words(message), words);
        }
    }
}
