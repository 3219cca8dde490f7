//! A Redis or Valkey process with its own port and folder, which can be stopped, killed, paused and restarted.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::resp::{self, Login};
use crate::{Redis, certificates, free_port, signals, within};

/// Interval of polling a server.
const PAUSE: Duration = Duration::from_millis(10);
/// Attempts to start, because another process may take the free port.
const TRIES: usize = 5;

/// A running server. It is killed when dropped, and its folder is removed.
///
/// The fixture's own commands use a port without TLS.
pub struct RedisServer {
    setup: Redis,
    login: Option<Login>,
    port: u16,
    tls_port: Option<u16>,
    child: Child,
    folder: TempDir,
}

impl RedisServer {
    /// Starts a `redis-server` with the default setup; see [`Redis`].
    pub async fn start() -> Self {
        Redis::new().start().await
    }

    /// Starts a `valkey-server` with the default setup.
    pub async fn valkey() -> Self {
        Redis::valkey().start().await
    }

    pub(crate) async fn run(setup: Redis) -> Self {
        let folder = crate::temp_folder();
        if setup.tls {
            certificates::make(folder.path()).await;
        }
        if let Some(acl) = setup.acl() {
            fs::write(folder.path().join("users.acl"), acl).expect("the folder can be written to");
        }
        let login = setup.login();
        for _ in 0..TRIES {
            let (port, tls_port) = (free_port(), setup.tls.then(free_port));
            let config = config(&setup, port, tls_port);
            fs::write(folder.path().join("redis.conf"), config).expect("the folder can be written to");
            let mut child = spawn(&setup, folder.path());
            match ready(&mut child, port, login.as_ref(), folder.path()).await {
                Ok(()) => {
                    return Self {
                        setup,
                        login,
                        port,
                        tls_port,
                        child,
                        folder,
                    };
                }
                Err(said) if said.contains("in use") => {}
                Err(said) => panic!("{} does not start:\n{said}", setup.program.display()),
            }
        }
        panic!("{TRIES} free ports were taken by other processes");
    }

    /// The port for clients: the TLS port if there is one.
    pub fn port(&self) -> u16 {
        self.tls_port.unwrap_or(self.port)
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// `redis://127.0.0.1:PORT` or, with TLS, `rediss://…`, with the password if there is one.
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.login_in_url(), self.address())
    }

    /// The same for one of its users.
    pub fn url_for(&self, user: &str, password: &str) -> String {
        let (user, password) = (percent_encoded(user), percent_encoded(password));
        format!("{}://{user}:{password}@{}", self.scheme(), self.address())
    }

    /// Lines of `[transport]`: `tls-ca` to trust the server, and `tls-cert` and `tls-key` of a client.
    pub fn tls_settings(&self) -> (String, String) {
        let file = |name: &str| self.folder.path().join(name);
        let trust = format!("tls-ca = {:?}\n", file("ca.crt"));
        let show = format!(
            "tls-cert = {:?}\ntls-key = {:?}\n",
            file("client.crt"),
            file("client.key")
        );
        (trust, show)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Sends SIGTERM and waits until it has ended.
    pub async fn stop(&mut self) {
        signals::send(&self.child, Signal::SIGTERM);
        let ended = within("a Redis ends when asked to", self.child.wait()).await;
        ended.expect("it is our child");
    }

    /// Kills it (SIGKILL).
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it is our child");
    }

    /// Starts it again on the same port and folder; stops it first if it runs.
    pub async fn restart(&mut self) {
        if self.is_running() {
            self.stop().await;
        }
        self.child = spawn(&self.setup, self.folder.path());
        let ready = ready(&mut self.child, self.port, self.login.as_ref(), self.folder.path()).await;
        ready.unwrap_or_else(|said| panic!("{} does not start again:\n{said}", self.setup.program.display()));
    }

    /// Pauses it (SIGSTOP): connections stay open and nothing answers.
    pub fn pause(&self) {
        signals::pause(&self.child);
    }

    /// Resumes it (SIGCONT).
    pub fn resume(&self) {
        signals::send(&self.child, Signal::SIGCONT);
    }

    /// Runs a command; returns the answer as text, one item a line.
    ///
    /// # Panics
    /// When it fails.
    pub async fn command(&self, command: &[&str]) -> String {
        let answer = self.try_command(command).await;
        answer.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Runs a command; an error when the server cannot be reached, does not answer within 5 seconds, or answers with an error.
    pub async fn try_command(&self, command: &[&str]) -> std::io::Result<String> {
        resp::ask(self.port, self.login.as_ref(), command).await
    }

    /// Makes it a replica of `master`, and waits until it is in sync.
    pub async fn replica_of(&self, master: &RedisServer) {
        if let Some(login) = &master.login {
            self.command(&["CONFIG", "SET", "masteruser", &login.user]).await;
            self.command(&["CONFIG", "SET", "masterauth", &login.password]).await;
        }
        self.command(&["REPLICAOF", "127.0.0.1", &master.port.to_string()])
            .await;
        self.until(&["INFO", "replication"], "master_link_status:up").await;
    }

    /// Waits until the answer to a command contains `part`.
    pub async fn until(&self, command: &[&str], part: &str) {
        let happens = async {
            while !matches!(self.try_command(command).await, Ok(answer) if answer.contains(part)) {
                tokio::time::sleep(PAUSE).await;
            }
        };
        within(&format!("{command:?} answers with {part}"), happens).await;
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        log(self.folder.path())
    }

    /// `:PASSWORD@`, if there is one.
    pub(crate) fn login_in_url(&self) -> String {
        let password = self.setup.password.as_ref();
        password
            .map(|password| format!(":{}@", percent_encoded(password)))
            .unwrap_or_default()
    }

    fn scheme(&self) -> &str {
        if self.tls_port.is_some() { "rediss" } else { "redis" }
    }
}

fn config(setup: &Redis, port: u16, tls_port: Option<u16>) -> String {
    let mut lines = vec![format!("port {port}")];
    lines.extend(setup.lines.iter().cloned());
    if setup.lines.iter().any(|line| line == "cluster-enabled yes") {
        // The default, port + 10,000, may exceed 65,535.
        lines.push(format!("cluster-port {}", free_port()));
    }
    if let Some(tls_port) = tls_port {
        lines.push(format!("tls-port {tls_port}"));
        lines.push("tls-ca-cert-file ca.crt\ntls-cert-file server.crt\ntls-key-file server.key".into());
        if !setup.lines.iter().any(|line| line.starts_with("tls-auth-clients ")) {
            lines.push("tls-auth-clients optional".into());
        }
    }
    if setup.acl().is_some() {
        lines.push("aclfile users.acl".into());
    } else if let Some(password) = &setup.password {
        lines.push(format!("requirepass \"{password}\""));
    }
    lines.join("\n") + "\n"
}

fn spawn(setup: &Redis, folder: &Path) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("log"));
    let log = log.expect("the folder can be written to");
    let mut command = Command::new(&setup.program);
    command.arg("redis.conf").current_dir(folder).stdin(Stdio::null());
    if setup.sentinel {
        command.arg("--sentinel");
    }
    command
        .stderr(log.try_clone().expect("it is a file"))
        .stdout(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{} cannot be run: {error}", setup.program.display()))
}

/// Waits until this process answers and has loaded its data; returns its log if it ends.
async fn ready(child: &mut Child, port: u16, login: Option<&Login>, folder: &Path) -> Result<(), String> {
    let own = format!("process_id:{}\r", child.id().expect("it was just started"));
    let answers = async {
        loop {
            if child.try_wait().expect("it is our child").is_some() {
                return Err(log(folder));
            }
            match resp::ask(port, login, &["INFO"]).await {
                Ok(info) if info.contains(&own) && !info.contains("loading:1") => return Ok(()),
                // Another process may have the port; then ours ends.
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    };
    tokio::time::timeout(crate::LIMIT, answers)
        .await
        .unwrap_or_else(|_| Err(log(folder)))
}

/// Percent-encodes a text.
fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}
