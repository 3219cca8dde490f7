//! All cases, one file a family: a list of its cases at the top, the functions that run them below.

mod api;
mod attachments;
mod content;
mod delivery;
mod floods;
mod frames;
mod handshakes;
mod holds;
mod requests;
mod sessions;

use crate::case::Case;

/// All cases in the order in which they run: cheap ones before those that load the server.
pub(crate) fn all() -> Vec<Case> {
    let families = [
        delivery::cases(),
        content::cases(),
        attachments::cases(),
        sessions::cases(),
        handshakes::cases(),
        frames::cases(),
        requests::cases(),
        api::cases(),
        floods::cases(),
        holds::cases(),
    ];
    families.into_iter().flatten().collect()
}
