//! Setup of a Redis before its start: durability, users, TLS.

use std::path::PathBuf;

use crate::RedisServer;
use crate::resp::Login;
use crate::tools::installed_tool;

/// The fixture's own user, with all permissions, if there are users.
const FIXTURE: &str = "fixture";

/// Setup of a server. By default it has no persistence and no password.
#[derive(Debug, Clone)]
pub struct Redis {
    pub(crate) program: PathBuf,
    pub(crate) sentinel: bool,
    pub(crate) tls: bool,
    pub(crate) password: Option<String>,
    pub(crate) users: Vec<String>,
    pub(crate) lines: Vec<String>,
}

impl Redis {
    /// The `redis-server` on PATH.
    ///
    /// # Panics
    /// When there is none.
    #[expect(clippy::new_without_default, reason = "it looks for a program and may not find it")]
    pub fn new() -> Self {
        let program = on_path("redis-server");
        Self::of(program.expect("no redis-server on PATH; install it, or run .ci/setup-tests"))
    }

    /// The `valkey-server` on PATH, or the one that `.ci/setup-tests` installed.
    ///
    /// # Panics
    /// When there is neither.
    pub fn valkey() -> Self {
        let program = on_path("valkey-server")
            .or_else(|| Some(installed_tool("valkey/usr/bin/valkey-server")).filter(|path| path.exists()));
        Self::of(program.expect("no valkey-server on PATH; install it, or run .ci/setup-tests"))
    }

    fn of(program: PathBuf) -> Self {
        Self {
            program,
            sentinel: false,
            tls: false,
            password: None,
            users: Vec::new(),
            lines: vec![
                "bind 127.0.0.1".into(),
                "save \"\"".into(),
                // Start the full copy at once; the default waits 5 seconds.
                "repl-diskless-sync-delay 0".into(),
            ],
        }
    }

    /// Enables AOF; `sync` is `always` or `everysec`.
    pub fn aof(self, sync: &str) -> Self {
        self.setting("appendonly yes").setting(&format!("appendfsync {sync}"))
    }

    /// Requires this password.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Adds a user with these ACL rules, and disables the default user.
    pub fn user(mut self, name: &str, password: &str, rules: &str) -> Self {
        self.users.push(format!("user {name} on >{password} {rules}"));
        self
    }

    /// Enables TLS with new certificates on the port of [`RedisServer::url`]. A client certificate is optional; it must be the one of
    /// [`RedisServer::tls_settings`].
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Adds a line of `redis.conf`; the last of its kind wins.
    pub fn setting(mut self, line: &str) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Starts it and waits until it answers.
    pub async fn start(self) -> RedisServer {
        RedisServer::run(self).await
    }

    pub(crate) fn sentinel(mut self) -> Self {
        self.sentinel = true;
        self
    }

    /// The fixture's own login.
    pub(crate) fn login(&self) -> Option<Login> {
        let login = |user: &str, password: &str| Login {
            user: user.into(),
            password: password.into(),
        };
        if !self.users.is_empty() {
            return Some(login(FIXTURE, FIXTURE));
        }
        self.password.as_ref().map(|password| login("default", password))
    }

    /// The ACL file, if there are users.
    pub(crate) fn acl(&self) -> Option<String> {
        if self.users.is_empty() {
            return None;
        }
        let password = self
            .password
            .as_ref()
            .map(|password| format!("on >{password} ~* &* +@all"));
        let default = format!("user default {}", password.as_deref().unwrap_or("off"));
        let fixture = format!("user {FIXTURE} on >{FIXTURE} ~* &* +@all");
        Some([vec![default, fixture], self.users.clone()].concat().join("\n") + "\n")
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|program| program.is_file())
}
