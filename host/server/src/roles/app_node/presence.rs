//! Presence on an app-node: the commit of an event that changes a client's channels, or ends the client, keeps or deletes its records.
//!
//! The channels that the client was in are read before the event is handled, as [`PresentIn`]. The commit fails if they have changed since.

use std::sync::Arc;

use plugnode_message::{
    ChannelChange, Client, Effects, Event, EventId, EventKind, KeyValue, Namespace, PresenceRecord, PresentIn,
    SessionId, index_bucket,
};
use plugnode_runtime::AppSettings;

/// Largest index entry that is read: the names of the channels of one client.
const MAX_INDEX: usize = 4 << 20;

/// The client whose channels an event changes, if its app has presence.
pub(super) fn subject<'e>(event: &'e Event, app: &AppSettings) -> Option<&'e SessionId> {
    let is_concerned = matches!(event.kind, EventKind::Channels(_) | EventKind::Disconnect(_));
    let client: &Client = event.client.as_ref()?;
    (is_concerned && !app.handler.presence.channels.is_empty()).then_some(&client.id)
}

/// Whether the handler gets the event. It gets changes of channels only if it asks for them.
pub(super) fn is_for_handler(event: &Event, app: Option<&AppSettings>) -> bool {
    !matches!(event.kind, EventKind::Channels(_)) || app.is_some_and(|app| app.handler.presence.events)
}

/// Reads the channels that a client is in.
///
/// # Errors
/// Why the store cannot be read.
pub(super) async fn read(
    namespace: Namespace,
    client: SessionId,
    store: Arc<dyn KeyValue>,
) -> Result<PresentIn, String> {
    let key = [client.as_str().into()];
    let read = store.get(&index_bucket(&namespace), &key, MAX_INDEX).await;
    let mut values = read.map_err(|error| error.to_string())?;
    Ok(PresentIn::read(namespace, client, values.pop().flatten()))
}

/// Adds the change of an event to its effects. Returns whether it adds records, which may not fit; with `omits_records` it adds none.
pub(super) fn add(
    present: &PresentIn,
    id: EventId,
    event: &Event,
    app: &AppSettings,
    effects: &mut Effects,
    omits_records: bool,
) -> bool {
    let mut change = match &event.kind {
        EventKind::Channels(change) => present.change(change),
        EventKind::Disconnect(_) => present.departure(),
        _ => ChannelChange::default(),
    };
    if omits_records {
        change.joined.clear();
    }
    if change.is_empty() {
        return false;
    }
    let attributes = event.client.as_ref().map(|client| client.attributes.clone());
    let record = PresenceRecord::new(&attributes.unwrap_or_default());
    let (read, writes) = present.commit(&change, &record);
    effects.reads.push(read);
    effects.writes.extend(writes);
    let has_notice = app.handler.presence.events && matches!(event.kind, EventKind::Disconnect(_)) && !omits_records;
    if has_notice {
        effects.writes.push(present.notice(&app.namespace, id.partition));
    }
    has_notice || !change.joined.is_empty()
}
