//! Who could have written what is in a file or a folder: machine code that is run has to be this user's own.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Why others than this user could change what is in it, and what to do.
pub(super) fn foreign(metadata: &Metadata) -> Option<String> {
    const OTHERS_WRITE: u32 = 0o022;
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user {
        return Some(format!(
            "it belongs to user {owner}, and this process runs as user {user}; as it holds code that is run, set \
             cache-dir to a folder of its own for each user"
        ));
    }
    let mode = metadata.mode() & 0o7777;
    (mode & OTHERS_WRITE != 0).then(|| {
        format!(
            "others may write to it (mode {mode:04o}), and it holds code that is run: take that away by chmod go-w, and \
             remove what is in it"
        )
    })
}

/// Why others than this user could put another folder in the place of this one, and what to do: by a folder above it that belongs
/// to them, or that they may write to. In one like /tmp nobody can remove what is another's.
pub(super) fn replaceable(folder: &Path) -> io::Result<Option<String>> {
    const OTHERS_WRITE: u32 = 0o022;
    const STICKY: u32 = 0o1000;
    let user = rustix::process::geteuid().as_raw();
    // Without links, so that each folder on the way is seen.
    let folder = folder.canonicalize()?;
    for parent in folder.ancestors().skip(1) {
        let metadata = parent.symlink_metadata()?;
        let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
        let shown = parent.display();
        if owner != user && owner != 0 {
            return Ok(Some(format!(
                "{shown} above it belongs to user {owner}, who could put another folder in its place, and it holds code that is run: \
                 set cache-dir to a folder that is below none but those of user {user} and root"
            )));
        }
        if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
            return Ok(Some(format!(
                "others may write to {shown} above it (mode {mode:04o}), and so put another folder in its place, and it holds code \
                 that is run: take that away by chmod go-w {shown}, or set cache-dir to another folder"
            )));
        }
    }
    Ok(None)
}
