//! How a Redis is to be set up before it starts: durability, who may come in, TLS.

use std::path::PathBuf;

use crate::RedisServer;
use crate::resp::Login;
use crate::tools::brought;

/// The one who may do everything, where there are users: the fixture itself.
const FIXTURE: &str = "fixture";

/// A server that is yet to be started. Without more, it keeps nothing on disk and lets everybody in.
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
    /// When there is none, with what to do.
    #[expect(clippy::new_without_default, reason = "it looks for a program and may not find it")]
    pub fn new() -> Self {
        let program = on_path("redis-server");
        Self::of(program.expect("there is no redis-server: install redis-server, or run .ci/setup-tests"))
    }

    /// The `valkey-server` on PATH, or the one that `.ci/setup-tests` brought.
    ///
    /// # Panics
    /// When there is neither, with what to do.
    pub fn valkey() -> Self {
        let program = on_path("valkey-server")
            .or_else(|| Some(brought("valkey/usr/bin/valkey-server")).filter(|path| path.exists()));
        Self::of(program.expect("there is no valkey-server: install valkey-server, or run .ci/setup-tests"))
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
                // Quicker than within 5 seconds, and a full copy costs nothing here.
                "repl-diskless-sync-delay 0".into(),
            ],
        }
    }

    /// Keeps every write on disk; `sync` is `always` or `everysec`.
    pub fn aof(self, sync: &str) -> Self {
        self.setting("appendonly yes").setting(&format!("appendfsync {sync}"))
    }

    /// Lets in who knows this password.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Lets this user in, who may do what the rules say, and nobody whose name is not given.
    pub fn user(mut self, name: &str, password: &str, rules: &str) -> Self {
        self.users.push(format!("user {name} on >{password} {rules}"));
        self
    }

    /// Speaks TLS, with certificates of its own, on the port that [`RedisServer::url`] names. Takes clients with and
    /// without a certificate; those that show one must have it from [`RedisServer::tls_settings`].
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Any line of `redis.conf`; the last of its kind wins.
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

    /// Whom the fixture speaks as.
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

    /// The file of users, if there are any.
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
