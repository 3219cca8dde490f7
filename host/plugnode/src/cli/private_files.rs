//! Warns at start of files with secrets that every user of the machine can read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use plugnode_server::config::{Config, Role};

/// Permission bits of users other than owner and group.
const OTHERS: u32 = 0o007;

/// Logs a warning for each such file.
pub(super) fn warn(config: &Config, file: &Path) {
    for (what, file) in secrets(config, file) {
        if let Some(problem) = problem(what, file) {
            tracing::warn!("{problem}");
        }
    }
}

/// The warning for a file, if others have access. `what` names its secret.
fn problem(what: &str, file: &Path) -> Option<String> {
    let mode = fs::metadata(file).ok()?.permissions().mode() & 0o7777;
    let shown = file.display();
    (mode & OTHERS != 0).then(|| {
        format!("{what}: every user of this machine has access to {shown} (mode {mode:04o}); run chmod o-rwx {shown}")
    })
}

/// Files with a secret that this process uses, each with the name of the secret. `file` is the config file.
fn secrets<'a>(config: &'a Config, file: &'a Path) -> Vec<(&'static str, &'a Path)> {
    let token = &config.io_node.token;
    let has_port = config.has(Role::Frontend) || config.has(Role::IoNode);
    let has_password = |url: &str| {
        url.split_once('@')
            .is_some_and(|(login, _)| login.matches(':').count() > 1)
    };
    let in_file = |path: &[&str]| {
        // Not from `config`: a value from the environment is not in the file.
        let text = fs::read_to_string(file).ok();
        let table: Option<toml::Table> = text.and_then(|text| text.parse().ok());
        let found = path
            .iter()
            .try_fold(toml::Value::Table(table.unwrap_or_default()), |value, key| {
                value.get(key).cloned()
            });
        found.and_then(|value| value.as_str().map(str::to_owned))
    };
    let mut files = Vec::new();
    if has_port && let Some(key) = &config.http.tls_key {
        files.push(("[http] tls-key", key.as_path()));
    }
    if let Some(key) = &config.transport.redis.tls.key {
        files.push(("[transport] tls-key", key.as_path()));
    }
    if config.has(Role::IoNode)
        && let Some(secret) = &token.secret_file
    {
        files.push(("[io-node.token] secret-file", secret.as_path()));
    }
    let key_files = config.api.keys.iter().filter_map(|key| key.key_file.as_deref());
    files.extend(key_files.map(|secret| ("[[api.key]] key-file", secret)));
    let table: Option<toml::Table> = fs::read_to_string(file).ok().and_then(|text| text.parse().ok());
    let keys = table
        .as_ref()
        .and_then(|table| table.get("api")?.get("key")?.as_array());
    if keys.is_some_and(|keys| keys.iter().any(|key| key.get("key").is_some())) {
        files.push(("[[api.key]] key", file));
    }
    if in_file(&["io-node", "token", "secret"]).is_some() {
        files.push(("[io-node.token] secret", file));
    } else if in_file(&["transport", "url"]).is_some_and(|url| has_password(&url)) {
        files.push(("the password in [transport] url", file));
    }
    files
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn warns_of_private_files_that_others_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str, mode: u32| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            path
        };
        let mut config = Config::default();
        let problems_of = |config: &Config, file: &Path| {
            let files = secrets(config, file);
            files
                .into_iter()
                .filter_map(|(what, file)| problem(what, file))
                .collect::<Vec<_>>()
        };
        let file = write("a.toml", "[transport]\nurl = \"redis://:secret@host\"", 0o644);
        let problems = problems_of(&config, &file);
        assert!(
            problems.len() == 1 && problems[0].contains("mode 0644") && problems[0].contains("chmod"),
            "{problems:?}"
        );
        assert!(!problems[0].contains("secret@"), "{problems:?}");
        let file = write("b.toml", "[transport]\nurl = \"redis://host\"", 0o644);
        assert!(problems_of(&config, &file).is_empty());
        config.http.tls_key = Some(write("https.key", "", 0o640));
        config.io_node.token.secret_file = Some(write("token.secret", "", 0o604));
        let problems = problems_of(&config, &file);
        assert!(
            problems.len() == 1 && problems[0].starts_with("[io-node.token] secret-file"),
            "{problems:?}"
        );
    }
}
