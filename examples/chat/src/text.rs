//! What may be said, and who may be called what. Pages show both as text, so no markup is taken out here.

/// What a name must be.
pub(crate) const NAME_RULE: &str = "a name has 1 to 32 characters";
/// What a message must be.
pub(crate) const BODY_RULE: &str = "a message is a text of 1 to 2000 characters";

/// A name on one line with single spaces; none when it breaks the rule.
pub(crate) fn name(text: &str) -> Option<String> {
    let name = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty());
    within(name.collect::<Vec<_>>().join(" "), 32)
}

/// A message without blank ends and control characters; none when it breaks the rule.
pub(crate) fn body(text: &str) -> Option<String> {
    let body = text.trim().chars().filter(|c| *c == '\n' || !c.is_control());
    within(body.collect(), 2000)
}

fn within(text: String, most: usize) -> Option<String> {
    (1..=most).contains(&text.chars().count()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_line_of_up_to_32_characters() {
        assert_eq!(name("  Ada \n Lovelace\u{7} ").as_deref(), Some("Ada Lovelace"));
        assert_eq!(name(" \t"), None);
        assert_eq!(name(&"ü".repeat(32)).map(|name| name.chars().count()), Some(32));
        assert_eq!(name(&"ü".repeat(33)), None);
    }

    #[test]
    fn bodies_keep_their_lines() {
        assert_eq!(body(" a\n\u{0}b ").as_deref(), Some("a\nb"));
        assert_eq!(body("\n"), None);
    }
}
