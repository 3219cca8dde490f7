//! For counted tests: a session without a socket. See `crate::counted`.

use super::*;

impl Session {
    /// What is sent to it goes nowhere.
    pub(in super::super) fn of_nobody(bounds: Bounds, opening: Arc<Opening>) -> Arc<Self> {
        let flow = Flow {
            line: Line::WebSocket(Outgoing::default()),
            connection: None,
            websocket: true,
            waiting: 0,
            waiting_bytes: 0,
            paused: false,
            sent: 0,
            pacing: None,
        };
        Arc::new(Self {
            id: Sid::new(),
            revision: Revision::V5,
            opening,
            unfinished: Unfinished::default(),
            bounds,
            members: Mutex::default(),
            flow: Mutex::new(flow),
            resumed: Arc::default(),
            sessions: Weak::new(),
        })
    }
}
