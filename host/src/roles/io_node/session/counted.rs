//! For counted tests: a session without a socket. See `crate::counted`.

use super::*;

impl Session {
    /// What is sent to it goes nowhere.
    pub(in super::super) fn of_nobody(bounds: Bounds, opening: Arc<Opening>) -> Arc<Self> {
        let line = Line::websocket(crate::http::testing::connection());
        Arc::new(Self {
            id: Sid::new(),
            revision: Revision::V5,
            opening,
            unfinished: Unfinished::default(),
            members: Mutex::default(),
            flow: Mutex::new(Flow::new(line, bounds)),
            resumed: Arc::default(),
            sessions: Weak::new(),
        })
    }
}
