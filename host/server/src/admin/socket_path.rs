//! The path of the socket, and checks that no other user can replace it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// Longest path of a Unix socket in bytes.
const MAX_PATH: usize = 107;

/// The path of the socket of a process whose HTTP port is `port`: the configured one, or one in the user's runtime folder. None if
/// the configured path is empty, which turns the socket off.
pub fn path(configured: Option<&Path>, port: u16) -> Option<PathBuf> {
    match configured {
        Some(path) if path.as_os_str().is_empty() => None,
        Some(path) => Some(path.into()),
        None => folders().into_iter().next().map(|folder| in_folder(&folder, port)),
    }
}

/// The path for a client. It also finds the socket of a process that was started with another environment.
pub fn reachable(configured: Option<&Path>, port: u16) -> Option<PathBuf> {
    let mut sockets = folders().into_iter().map(|folder| in_folder(&folder, port));
    match configured {
        None => sockets.find(|socket| socket.exists()).or_else(|| path(None, port)),
        configured => path(configured, port),
    }
}

/// The folders for sockets, the preferred one first.
fn folders() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.filter(|folder| folder.is_absolute() && folder.is_dir());
    let temporary = own_user().map(|user| std::env::temp_dir().join(format!("plugnode-{user}")));
    let runtime = runtime.map(|folder| folder.join("plugnode"));
    runtime.into_iter().chain(temporary.ok()).collect()
}

fn in_folder(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!("{port}.sock"))
}

/// Creates the folder of the socket if necessary, and checks that only its owner can write to it.
pub(super) fn prepare(socket: &Path) -> Result<()> {
    let length = socket.as_os_str().as_bytes().len();
    if length > MAX_PATH {
        bail!(
            "the path {} has {length} bytes, and a socket's path at most {MAX_PATH}: choose a shorter one by [admin] socket",
            socket.display()
        );
    }
    let folder = match socket.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let shown = folder.display();
    let found = fs::symlink_metadata(folder).with_context(|| format!("cannot look at {shown}"))?;
    let user = own_user().context("cannot find out the user of this process")?;
    if !found.is_dir() {
        bail!("{shown} is no folder: remove it, or choose another path by [admin] socket");
    }
    if found.uid() != user {
        bail!(
            "the folder {shown} belongs to user {}, and this process runs as user {user}: remove it, or choose another path \
             by [admin] socket",
            found.uid()
        );
    }
    if found.mode() & 0o022 != 0 {
        bail!(
            "other users may write to the folder {shown}: chmod go-w {shown}, or choose another path by [admin] socket"
        );
    }
    Ok(())
}

/// The user id of this process, taken from a file that it creates. Its files under /proc belong to root if the program has file
/// capabilities, such as for low ports.
pub(super) fn own_user() -> io::Result<u32> {
    static USER: OnceLock<u32> = OnceLock::new();
    match USER.get() {
        Some(user) => Ok(*user),
        None => {
            let user = tempfile::tempfile()?.metadata()?.uid();
            Ok(*USER.get_or_init(|| user))
        }
    }
}

/// Whether a peer with this user id is trusted.
pub(super) fn is_trusted(user: u32) -> bool {
    user == 0 || own_user().is_ok_and(|own| own == user)
}
