//! Who types: the user and the machine, as a release is signed.

use plugnode_release::Author;
use plugnode_server::settings;

/// The longest message of a release, in characters: every node reads it whenever the board changes.
const LONGEST: usize = 500;

/// The user of this process. Who has become root by sudo is still themselves.
pub(super) fn author() -> Author {
    let uid = rustix::process::geteuid();
    let before = std::env::var("SUDO_USER").ok().filter(|_| uid.is_root());
    let named = || {
        let users = std::fs::read_to_string("/etc/passwd").ok()?;
        name_of(&users, uid.as_raw())
    };
    let user = before.or_else(named).or_else(|| std::env::var("USER").ok());
    Author {
        user: user.unwrap_or_else(|| uid.as_raw().to_string()),
        host: settings::host_name(),
    }
}

/// The name of a user in the list of them.
fn name_of(users: &str, uid: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// A message as it may be typed.
pub(super) fn parse_message(text: &str) -> Result<String, String> {
    match text.chars().count() {
        0 => Err("says nothing".to_owned()),
        length if length > LONGEST => Err(format!("has {length} characters; {LONGEST} are allowed")),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_is_found_by_its_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\nada:x:1000:1000::/home/ada:/bin/sh\n";
        assert_eq!(name_of(users, 1000).as_deref(), Some("ada"));
        assert_eq!(name_of(users, 1001), None);
        let author = author();
        assert!(!author.user.is_empty() && !author.host.is_empty());
    }

    #[test]
    fn message_has_a_length() {
        assert!(parse_message("").is_err());
        assert!(parse_message(&"ä".repeat(LONGEST)).is_ok());
        assert!(parse_message(&"ä".repeat(LONGEST + 1)).is_err());
    }
}
