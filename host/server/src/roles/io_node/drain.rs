//! Closes a connection at the end of the process, once its events are answered.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use plugnode_message::DisconnectReason;
use plugnode_socket_io::Connection;
use plugnode_transport::{Inbox, LeaseHealth};

/// How often it is checked whether all events of a connection are answered.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// How many checks in a row have to find so: committed effects take a moment to arrive.
const CHECKS: u32 = 3;
/// How long a client that goes on sending is still read.
const BUSY: Duration = Duration::from_millis(200);

/// Closes a connection when its events are answered, at the latest at `until`, and at once when the transport is away.
pub(super) async fn close_when_answered(
    connection: &Connection,
    reason: &DisconnectReason,
    inbox: &dyn Inbox,
    lease_health: &LeaseHealth,
    until: Instant,
) {
    answered(connection, inbox, lease_health, until.min(Instant::now() + BUSY)).await;
    connection.pause();
    answered(connection, inbox, lease_health, until).await;
    connection.close_with(reason);
    connection.resume();
}

/// Completes when all events of a connection are answered, or at `until`.
async fn answered(connection: &Connection, inbox: &dyn Inbox, lease_health: &LeaseHealth, until: Instant) {
    let mut checks = 0;
    while checks < CHECKS && Instant::now() < until && !connection.is_closed() && !lease_health.is_overdue() {
        sleep(CHECK_INTERVAL).await;
        checks = if is_answered(connection, inbox) { checks + 1 } else { 0 };
    }
}

fn is_answered(connection: &Connection, inbox: &dyn Inbox) -> bool {
    let sockets = connection.sockets();
    let mut open = sockets
        .iter()
        .map(|socket| inbox.open_events(socket.namespace(), &socket.id));
    !connection.has_waiting_events() && open.all(|events| events == 0)
}
