//! Where the socket is, and whether that is a place that others cannot meddle with.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// A longer path is no address of a Unix socket.
const LONGEST: usize = 107;

/// Where the socket of a process is that listens for HTTP at this port: where it is configured to be, or in the user's runtime
/// folder. None when it is configured to be nowhere.
pub fn path(configured: Option<&Path>, port: u16) -> Option<PathBuf> {
    match configured {
        Some(path) if path.as_os_str().is_empty() => None,
        Some(path) => Some(path.into()),
        None => folders().into_iter().next().map(|folder| in_folder(&folder, port)),
    }
}

/// The same for whoever looks for the process: it may have been started with another environment.
pub fn reachable(configured: Option<&Path>, port: u16) -> Option<PathBuf> {
    let mut sockets = folders().into_iter().map(|folder| in_folder(&folder, port));
    match configured {
        None => sockets.find(|socket| socket.exists()).or_else(|| path(None, port)),
        configured => path(configured, port),
    }
}

/// The folders that are tried, the best first.
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

/// Sees to it that there is a folder for the socket, and that nobody but its owner can put something there.
pub(super) fn prepare(socket: &Path) -> Result<()> {
    let length = socket.as_os_str().as_bytes().len();
    if length > LONGEST {
        bail!(
            "the path {} has {length} bytes, and that of a socket can have {LONGEST}: name a shorter one by [admin] socket",
            socket.display()
        );
    }
    let folder = match socket.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let shown = folder.display();
    let found = fs::symlink_metadata(folder).with_context(|| format!("cannot look at {shown}"))?;
    let user = own_user().context("cannot find out which user this is")?;
    if !found.is_dir() {
        bail!("{shown} is no folder: remove it, or name another place by [admin] socket");
    }
    if found.uid() != user {
        bail!(
            "the folder {shown} belongs to user {} and this is user {user}: remove it, or name another place by [admin] socket",
            found.uid()
        );
    }
    if found.mode() & 0o022 != 0 {
        bail!(
            "other users may write to the folder {shown}: chmod go-w {shown}, or name another place by [admin] socket"
        );
    }
    Ok(())
}

/// The number of the user that this process runs as: that of the files that it makes. What is under /proc belongs to root
/// when the process may use low ports by its file's capabilities.
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

/// Whether somebody of this number may be spoken with.
pub(super) fn is_trusted(user: u32) -> bool {
    user == 0 || own_user().is_ok_and(|own| own == user)
}
