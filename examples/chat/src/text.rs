//! Validation of names and messages. The page inserts both as text, so markup needs no escaping here.

/// The rule for names.
pub(crate) const NAME_RULE: &str = "a name has 1 to 32 characters";
/// The rule for messages.
pub(crate) const BODY_RULE: &str = "a message is a text of 1 to 2000 characters";

/// Normalizes a name to one line with single spaces. None if it breaks the rule.
pub(crate) fn name(text: &str) -> Option<String> {
    let name = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty());
    within(name.collect::<Vec<_>>().join(" "), 32)
}

/// Trims a message and removes control characters. None if it breaks the rule.
pub(crate) fn body(text: &str) -> Option<String> {
    let body = text.trim().chars().filter(|c| *c == '\n' || !c.is_control());
    within(body.collect(), 2000)
}

fn within(text: String, max: usize) -> Option<String> {
    (1..=max).contains(&text.chars().count()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalizes_names_up_to_32_characters() {
        assert_eq!(name("  Ada \n Lovelace\u{7} ").as_deref(), Some("Ada Lovelace"));
        assert_eq!(name(" \t"), None);
        assert_eq!(name(&"ü".repeat(32)).map(|name| name.chars().count()), Some(32));
        assert_eq!(name(&"ü".repeat(33)), None);
    }

    #[test]
    fn messages_keep_line_breaks() {
        assert_eq!(body(" a\n\u{0}b ").as_deref(), Some("a\nb"));
        assert_eq!(body("\n"), None);
    }
}
