//! Author and message of a release.

use plugnode_release::Author;
use plugnode_server::roles::host_name;

/// Limit of a release's message, in characters. Every node reads it whenever the board changes.
const MAX_MESSAGE: usize = 500;

/// The user of this process, and this machine. Under sudo it is the user who ran sudo.
pub(super) fn author() -> Author {
    let uid = rustix::process::geteuid();
    let sudo_user = std::env::var("SUDO_USER").ok().filter(|_| uid.is_root());
    let from_passwd = || {
        let users = std::fs::read_to_string("/etc/passwd").ok()?;
        name_of(&users, uid.as_raw())
    };
    let user = sudo_user.or_else(from_passwd).or_else(|| std::env::var("USER").ok());
    Author {
        user: user.unwrap_or_else(|| uid.as_raw().to_string()),
        host: host_name(),
    }
}

/// Name of a user in the format of /etc/passwd.
fn name_of(users: &str, uid: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// Parses the argument `--message`.
pub(super) fn parse_message(text: &str) -> Result<String, String> {
    match text.chars().count() {
        0 => Err("is empty".to_owned()),
        length if length > MAX_MESSAGE => Err(format!("has {length} characters; {MAX_MESSAGE} are allowed")),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_user_name_by_uid() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\nada:x:1000:1000::/home/ada:/bin/sh\n";
        assert_eq!(name_of(users, 1000).as_deref(), Some("ada"));
        assert_eq!(name_of(users, 1001), None);
        let author = author();
        assert!(!author.user.is_empty() && !author.host.is_empty());
    }

    #[test]
    fn refuses_empty_and_long_messages() {
        assert!(parse_message("").is_err());
        assert!(parse_message(&"ä".repeat(MAX_MESSAGE)).is_ok());
        assert!(parse_message(&"ä".repeat(MAX_MESSAGE + 1)).is_err());
    }
}
