//! Checks that no other user can write to a file or directory: machine code that is run must come from this user.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const GROUP_OR_OTHERS_WRITE: u32 = 0o022;

/// Why other users could change a file or the entries of a directory, and what to do. None if they cannot.
pub(crate) fn writable_by_others(metadata: &Metadata) -> Option<String> {
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user {
        return Some(format!(
            "it belongs to user {owner}, this process runs as user {user}, and it contains machine code that is run; set \
             cache-dir to a directory of user {user}"
        ));
    }
    let mode = metadata.mode() & 0o7777;
    (mode & GROUP_OR_OTHERS_WRITE != 0).then(|| {
        format!(
            "others may write to it (mode {mode:04o}), and it contains machine code that is run; run chmod go-w on it, and \
             remove its contents"
        )
    })
}

/// Why other users could put another directory in the place of this one, and what to do. None if they cannot. They can if a
/// parent directory belongs to them, or if they may write to it and it has no sticky bit, as /tmp has.
pub(crate) fn replaceable_by_others(dir: &Path) -> io::Result<Option<String>> {
    const STICKY: u32 = 0o1000;
    let user = rustix::process::geteuid().as_raw();
    // Resolves symbolic links, so that every parent is checked.
    let dir = dir.canonicalize()?;
    for parent in dir.ancestors().skip(1) {
        let metadata = parent.symlink_metadata()?;
        let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
        let shown = parent.display();
        if owner != user && owner != 0 {
            return Ok(Some(format!(
                "its parent {shown} belongs to user {owner}, who could replace it, and it contains machine code that is run; \
                 set cache-dir to a directory whose parents belong to user {user} or root"
            )));
        }
        if mode & GROUP_OR_OTHERS_WRITE != 0 && mode & STICKY == 0 {
            return Ok(Some(format!(
                "others may write to its parent {shown} (mode {mode:04o}) and so replace it, and it contains machine code that \
                 is run; run chmod go-w {shown}, or set cache-dir to another directory"
            )));
        }
    }
    Ok(None)
}
