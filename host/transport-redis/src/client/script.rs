//! A Lua script, which Redis runs atomically.

use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;
use redis::Cmd;

/// A script: its name for logs, and its code.
pub(crate) struct Script {
    name: &'static str,
    code: &'static str,
    /// Key of the script in Redis' script cache.
    sha1: OnceLock<String>,
}

impl Script {
    /// A script with this code. Computes nothing yet.
    pub(crate) const fn new(name: &'static str, code: &'static str) -> Self {
        let sha1 = OnceLock::new();
        Self { name, code, sha1 }
    }

    /// Command that runs the script from Redis' cache.
    pub(crate) fn by_sha1(&self, keys: &[Bytes], arguments: &[Bytes]) -> Cmd {
        let sha1 = self
            .sha1
            .get_or_init(|| redis::Script::new(self.code).get_hash().into());
        command("EVALSHA", sha1, keys, arguments)
    }

    /// Command that runs the script and puts it into Redis' cache.
    pub(crate) fn by_code(&self, keys: &[Bytes], arguments: &[Bytes]) -> Cmd {
        command("EVAL", self.code, keys, arguments)
    }
}

/// The Cluster client routes a command of this form by its first key.
fn command(name: &str, script: &str, keys: &[Bytes], arguments: &[Bytes]) -> Cmd {
    let bytes: usize = keys.iter().chain(arguments).map(Bytes::len).sum();
    let mut command = Cmd::with_capacity(3 + keys.len() + arguments.len(), name.len() + script.len() + bytes + 8);
    command.arg(name).arg(script).arg(keys.len());
    for part in keys.iter().chain(arguments) {
        command.arg(&part[..]);
    }
    command
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Script({})", self.name)
    }
}
