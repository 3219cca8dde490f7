//! The talk by which a client finds out whether it can move a session to a websocket: it says `2probe` and is answered
//! `3probe`, as often as it likes, and when it is ready it says `5`.
//!
//! Nothing is read here beyond the client's last word.

use super::super::websocket::{Said, WebSocket, frame};

const PROBE: &str = "2probe";
const ANSWER: &str = "3probe";
const UPGRADE: &str = "5";
/// Messages that a client may take: more than any needs.
const MOST_MESSAGES: usize = 32;

/// Why a client does not move.
#[derive(Debug, thiserror::Error)]
pub(super) enum GivenUp {
    #[error("the websocket ended: {0}")]
    Ended(#[from] tungstenite::Error),
    #[error("the client closed the websocket")]
    Closed,
    #[error("the client sent what is no part of a probe")]
    Nonsense,
    #[error("it has ended or moved to another websocket")]
    Over,
}

/// Talks with a client until it moves. It is told how to know that the client was answered.
pub(super) async fn talk(websocket: &mut WebSocket, answered: impl Fn()) -> Result<(), GivenUp> {
    let mut is_probed = false;
    for _ in 0..MOST_MESSAGES {
        match websocket.next().await? {
            Said::Text(text) if text == PROBE => {
                websocket.push(frame::text(ANSWER));
                websocket.write().await.map_err(tungstenite::Error::from)?;
                is_probed = true;
                answered();
            }
            Said::Text(text) if text == UPGRADE && is_probed => return Ok(()),
            Said::Goodbye => return Err(GivenUp::Closed),
            Said::Text(_) | Said::Binary(_) => return Err(GivenUp::Nonsense),
        }
    }
    Err(GivenUp::Nonsense)
}
