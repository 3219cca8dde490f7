//! All cases, a file for each family: the list at the top of a file says what its cases do, the functions below do it.

mod content;
mod delivery;
mod floods;
mod frames;
mod holds;
mod protocol;
mod requests;

use crate::case::Case;

/// Every case, in the order in which they run: what only asks comes before what weighs on the server.
pub(crate) fn all() -> Vec<Case> {
    let families = [
        delivery::cases(),
        content::cases(),
        protocol::cases(),
        frames::cases(),
        requests::cases(),
        floods::cases(),
        holds::cases(),
    ];
    families.into_iter().flatten().collect()
}
