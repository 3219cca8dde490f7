//! The way into socketioxide for packets that are already encoded.
//!
//! The public `emit` serialises its argument and says nothing of single sockets; an adapter is given the local rooms and
//! may send whole packets. This one does that and nothing more: it reaches no other node, for the outbox does that, in
//! order.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socketioxide::adapter::Emitter;
use socketioxide_core::Sid;
use socketioxide_core::adapter::{
    BroadcastFlags, BroadcastOptions, CoreAdapter, CoreLocalAdapter, DefinedAdapter, SocketEmitter,
};
use socketioxide_core::packet::Packet;

/// The answers of sockets to one request.
pub(super) type Answers = <Emitter as SocketEmitter>::AckStream;

/// Doors by namespace, filled in by socketioxide as it makes the namespaces.
pub(super) type Doors = Arc<Mutex<HashMap<String, Arc<Door>>>>;

/// One namespace's rooms and sockets. Public only because it stands in the type of the service.
pub struct Door {
    doors: Doors,
    local: CoreLocalAdapter<Emitter>,
}

impl Door {
    /// Puts a packet into the send queues of the sockets chosen.
    pub(super) fn send(&self, packet: Packet, to: BroadcastOptions) {
        // A queue that is full or closed belongs to a connection that is being ended.
        let _ = self.local.broadcast(packet, to);
    }

    /// Sends a packet that asks for an acknowledgement, which comes on the stream.
    pub(super) fn request(&self, packet: Packet, to: Sid, timeout: Duration) -> Answers {
        self.local
            .broadcast_with_ack(packet, BroadcastOptions::new(to), Some(timeout))
            .0
    }

    /// The sockets chosen.
    pub(super) fn sockets(&self, chosen: BroadcastOptions) -> Vec<Sid> {
        self.local.sockets(chosen)
    }

    /// Puts a socket into rooms.
    pub(super) fn join(&self, socket: Sid, rooms: Vec<String>) {
        self.local.add_all(socket, rooms);
    }

    /// Takes a socket out of rooms.
    pub(super) fn leave(&self, socket: Sid, rooms: Vec<String>) {
        self.local.del(socket, rooms);
    }
}

/// Chooses every socket of the namespace, or of the options' rooms when some are added, but for the one named.
pub(super) fn all_but(socket: Option<Sid>) -> BroadcastOptions {
    let mut options = socket.map_or_else(BroadcastOptions::default, BroadcastOptions::new);
    options.add_flag(BroadcastFlags::Broadcast);
    options
}

impl CoreAdapter<Emitter> for Door {
    type Error = Infallible;
    type State = Doors;
    type AckStream = Answers;
    type InitRes = ();

    fn new(doors: &Doors, local: CoreLocalAdapter<Emitter>) -> Self {
        Self {
            doors: doors.clone(),
            local,
        }
    }

    fn init(self: Arc<Self>, on_success: impl FnOnce() + Send + 'static) {
        let namespace = self.local.path().to_string();
        self.doors
            .lock()
            .expect("nothing panics while it holds this lock")
            .insert(namespace, self.clone());
        on_success();
    }

    async fn broadcast_with_ack(
        &self,
        packet: Packet,
        options: BroadcastOptions,
        timeout: Option<Duration>,
    ) -> Result<Answers, Infallible> {
        Ok(self.local.broadcast_with_ack(packet, options, timeout).0)
    }

    fn get_local(&self) -> &CoreLocalAdapter<Emitter> {
        &self.local
    }
}

impl DefinedAdapter for Door {}
