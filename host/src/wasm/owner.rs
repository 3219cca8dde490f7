//! Who could have written what is in a file or a folder: machine code that is run has to be this user's own.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

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
