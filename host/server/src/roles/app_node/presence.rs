//! Presence on an app-node: the commit of an event that changes a client's channels, or ends the client, keeps or deletes its records.
//!
//! The channels that the client was in are read before the event is handled, as [`PresentIn`]. The commit fails if they have changed since.

use std::collections::HashSet;
use std::sync::Arc;

use tracing::warn;

use plugnode_message::{
    Channel, ChannelChange, Event, EventId, EventKind, KeyChange, KeyValue, Namespace, PresenceRecord, PresentIn, Read,
    SessionId, Text, index_bucket, presence_bucket,
};
use plugnode_process::log_limiter;
use plugnode_runtime::AppSettings;

/// Largest index entry that is read: the names of the channels of one client.
const MAX_INDEX: usize = 4 << 20;

/// The client whose channels an event changes.
pub(super) fn subject(event: &Event) -> Option<&SessionId> {
    let is_concerned = matches!(event.kind, EventKind::Channels(_) | EventKind::Disconnect(_));
    let client = event.client.as_ref().filter(|_| is_concerned)?;
    Some(&client.id)
}

/// Warns of a channel whose presence the io-node keeps and this app-node does not.
pub(super) fn warn_of_other_channels(change: &ChannelChange, app: &AppSettings) {
    let kept = &app.handler.presence.channels;
    let is_kept = |channel: &Channel| kept.iter().any(|pattern| pattern.matches(channel.as_str()));
    if let Some(channel) = change.joined.iter().find(|channel| !is_kept(channel))
        && log_limiter::allows(&app.namespace, "presence differs")
    {
        warn!(app = %app.namespace, %channel, "the io-node keeps the presence of a channel that this app-node does not; give all nodes the same presence.channels");
    }
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

/// What the commit of an event checks and writes of presence. A channel whose bucket is omitted gets no record.
pub(super) fn records(
    present: &PresentIn,
    id: EventId,
    event: &Event,
    app: &AppSettings,
    omitted: &HashSet<Text>,
) -> (Option<Read>, Vec<KeyChange>) {
    let mut change = match &event.kind {
        EventKind::Channels(change) => present.change(change),
        EventKind::Disconnect(_) => present.departure(),
        _ => ChannelChange::default(),
    };
    let has_index = !omitted.contains(&index_bucket(&event.namespace));
    change
        .joined
        .retain(|channel| has_index && !omitted.contains(&presence_bucket(&event.namespace, channel.as_str())));
    if change.is_empty() {
        return (None, Vec::new());
    }
    let attributes = event.client.as_ref().map(|client| client.attributes.clone());
    let record = PresenceRecord::new(&attributes.unwrap_or_default());
    let (read, mut writes) = present.commit(&change, &record);
    if app.handler.presence.events && matches!(event.kind, EventKind::Disconnect(_)) {
        let notice = present.notice(&app.namespace, id.partition);
        writes.extend(Some(notice).filter(|notice| !omitted.contains(&notice.bucket)));
    }
    (Some(read), writes)
}
