//! The cases, each run over every transport.

use std::pin::Pin;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use serde_json::{Value, json};
use sioc::prelude::*;

use crate::client::{By, Heard, TestClient};

/// A case; the error is what failed.
pub(crate) type Case = for<'a> fn(&'a Cluster<'a>) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// The io-nodes and the transport.
pub(crate) struct Cluster<'a> {
    pub(crate) urls: &'a [&'a str],
    pub(crate) by: By,
}

/// All cases.
pub(crate) const ALL: &[(&str, Case)] = &[
    ("it is greeted with what it gave as `auth`", |cluster| {
        Box::pin(is_greeted(cluster))
    }),
    ("its arguments come back", |cluster| Box::pin(hears_itself(cluster))),
    ("binary comes back", |cluster| Box::pin(hears_its_bytes(cluster))),
    ("it is acknowledged", |cluster| Box::pin(is_acknowledged(cluster))),
    ("it is acknowledged with binary", |cluster| {
        Box::pin(is_acknowledged_with_bytes(cluster))
    }),
    ("it is in a custom namespace", |cluster| {
        Box::pin(is_in_a_custom_namespace(cluster))
    }),
    ("it is refused by a namespace that is not there", |cluster| {
        Box::pin(is_refused(cluster))
    }),
    ("what it says to a room is heard there, by others", |cluster| {
        Box::pin(is_heard_in_a_room(cluster))
    }),
    ("what it shouts is heard by all others", |cluster| {
        Box::pin(shouts(cluster))
    }),
    ("its events come back in their order", |cluster| {
        Box::pin(keeps_order(cluster))
    }),
    ("it is disconnected by the server, and may come back", |cluster| {
        Box::pin(is_kicked(cluster))
    }),
    ("it leaves, and the others go on", |cluster| Box::pin(leaves(cluster))),
    ("its pings keep the connection", |cluster| Box::pin(stays(cluster))),
];

#[derive(EventType, SerializePayload)]
struct Message(Value, Value);

#[derive(EventType, SerializePayload)]
#[sioc(event(name = "message", binary))]
struct BinaryMessage(Placeholder, Vec<Placeholder>);

#[derive(EventType, SerializePayload)]
#[sioc(event(name = "message-with-ack", ack = "Value2"))]
struct MessageWithAck(Value, Value);

#[derive(AckType, DeserializePayload)]
struct Value2(Value, Value);

#[derive(EventType, SerializePayload)]
#[sioc(event(name = "message-with-ack", binary, ack = "BinaryAck"))]
struct BinaryMessageWithAck(Placeholder);

#[derive(AckType, DeserializePayload)]
#[sioc(ack(binary))]
struct BinaryAck(Placeholder);

#[derive(EventType, SerializePayload)]
#[sioc(event(ack = "Done"))]
struct Join(String);

#[derive(AckType, DeserializePayload)]
struct Done(bool);

#[derive(EventType, SerializePayload)]
struct Say(String, Value);

#[derive(EventType, SerializePayload)]
struct Shout(Value);

#[derive(EventType, SerializePayload)]
#[sioc(event(name = "kick-me"))]
struct KickMe;

impl Cluster<'_> {
    /// Connects client `number` to the next io-node, round robin, and awaits its first event.
    async fn client(&self, number: usize) -> Result<TestClient> {
        self.greeted(number, "/", "").await
    }

    async fn greeted(&self, number: usize, namespace: &str, auth: &str) -> Result<TestClient> {
        let url = self.urls[number % self.urls.len()];
        let mut client = TestClient::connect(url, self.by, namespace, auth).await?;
        let given: Value = if auth.is_empty() {
            json!({})
        } else {
            serde_json::from_str(auth)?
        };
        equal(client.heard().await?, text(json!(["auth", given])))?;
        Ok(client)
    }
}

async fn is_greeted(cluster: &Cluster<'_>) -> Result<()> {
    cluster.greeted(0, "/", "").await?;
    cluster
        .greeted(0, "/", r#"{"token":"123","list":[1,null,"ü"]}"#)
        .await?;
    Ok(())
}

async fn hears_itself(cluster: &Cluster<'_>) -> Result<()> {
    let mut client = cluster.client(0).await?;
    for value in [
        json!("てすと 🦀"),
        json!(null),
        json!({"3": [true, 1.5, {}]}),
        json!(""),
        json!([]),
    ] {
        client.emit(Message(value.clone(), json!(1))).await?;
        equal(client.heard().await?, text(json!(["message-back", value, 1])))?;
    }
    Ok(())
}

async fn hears_its_bytes(cluster: &Cluster<'_>) -> Result<()> {
    let mut client = cluster.client(0).await?;
    let bytes = [Bytes::from_static(b"\x00\xff"), Bytes::new(), vec![7; 200_000].into()];
    let [first, second, third] = bytes.clone();
    let event = |attach: &mut AttachmentsBuilder| {
        BinaryMessage(attach.attach(first), vec![attach.attach(second), attach.attach(third)])
    };
    client.emit(event).await?;
    let heard = Heard {
        payload: json!(["message-back", placeholder(0), [placeholder(1), placeholder(2)]]),
        attachments: bytes.into(),
    };
    equal(client.heard().await?, heard)
}

async fn is_acknowledged(cluster: &Cluster<'_>) -> Result<()> {
    let client = cluster.client(0).await?;
    for value in [json!("text"), json!({"nested": [1, "ü"]}), json!(null)] {
        let Ack {
            payload: Value2(first, second),
            ..
        } = client.ask(MessageWithAck(value.clone(), json!(2))).await?;
        equal((first, second), (value, json!(2)))?;
    }
    Ok(())
}

async fn is_acknowledged_with_bytes(cluster: &Cluster<'_>) -> Result<()> {
    let client = cluster.client(0).await?;
    let event = |attach: &mut AttachmentsBuilder| BinaryMessageWithAck(attach.attach(Bytes::from_static(b"bytes")));
    let Ack {
        payload: BinaryAck(place),
        attachments,
    } = client.ask(event).await?;
    equal((place.slot(), attachments), (0, vec![Bytes::from_static(b"bytes")]))
}

async fn is_in_a_custom_namespace(cluster: &Cluster<'_>) -> Result<()> {
    let mut custom = cluster.greeted(0, "/custom", r#"{"a":"b"}"#).await?;
    let main = cluster.client(0).await?;
    ensure!(custom.id != main.id, "two clients have one id");
    custom.emit(Message(json!("here"), json!(1))).await?;
    equal(custom.heard().await?, text(json!(["message-back", "here", 1])))
}

async fn is_refused(cluster: &Cluster<'_>) -> Result<()> {
    match TestClient::connect(cluster.urls[0], cluster.by, "/nowhere", "").await {
        Ok(_) => bail!("it was not refused"),
        Err(error) => equal(error.to_string().as_str(), "refused: Invalid namespace"),
    }
}

async fn is_heard_in_a_room(cluster: &Cluster<'_>) -> Result<()> {
    let (mut here, mut there) = (cluster.client(0).await?, cluster.client(1).await?);
    let mut outside = cluster.client(2).await?;
    for client in [&here, &there] {
        let Ack {
            payload: Done(done), ..
        } = client.ask(Join("room".into())).await?;
        ensure!(done, "`join` is acknowledged by true");
    }
    here.emit(Say("room".into(), json!({"hello": "there"}))).await?;
    equal(there.heard().await?, text(json!(["said", {"hello": "there"}])))?;
    there.emit(Say("room".into(), json!("and back"))).await?;
    // A room's message reaches neither its sender nor clients outside: this is the first event that they receive.
    equal(here.heard().await?, text(json!(["said", "and back"])))?;
    there.emit(Shout(json!("all"))).await?;
    equal(outside.heard().await?, text(json!(["shouted", "all"])))
}

async fn shouts(cluster: &Cluster<'_>) -> Result<()> {
    let mut first = cluster.client(0).await?;
    let mut others = [
        cluster.client(1).await?,
        cluster.client(2).await?,
        cluster.client(3).await?,
    ];
    first.emit(Shout(json!("to all"))).await?;
    for other in &mut others {
        equal(other.heard().await?, text(json!(["shouted", "to all"])))?;
    }
    others[0].emit(Shout(json!("back"))).await?;
    equal(first.heard().await?, text(json!(["shouted", "back"])))
}

async fn keeps_order(cluster: &Cluster<'_>) -> Result<()> {
    let mut client = cluster.client(0).await?;
    for number in 0..100 {
        client.emit(Message(json!(number), json!("text"))).await?;
    }
    for number in 0..100 {
        equal(client.heard().await?, text(json!(["message-back", number, "text"])))?;
    }
    Ok(())
}

async fn is_kicked(cluster: &Cluster<'_>) -> Result<()> {
    let mut client = cluster.client(0).await?;
    client.emit(KickMe).await?;
    client.disconnected().await?;
    cluster.client(0).await?;
    Ok(())
}

async fn leaves(cluster: &Cluster<'_>) -> Result<()> {
    let (mut stays, goes) = (cluster.client(0).await?, cluster.client(1).await?);
    goes.leave().await;
    stays.emit(Message(json!("here"), json!(1))).await?;
    equal(stays.heard().await?, text(json!(["message-back", "here", 1])))
}

async fn stays(cluster: &Cluster<'_>) -> Result<()> {
    let mut client = cluster.client(0).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    client.emit(Message(json!("still here"), json!(1))).await?;
    equal(client.heard().await?, text(json!(["message-back", "still here", 1])))
}

fn text(payload: Value) -> Heard {
    Heard {
        payload,
        attachments: Vec::new(),
    }
}

fn placeholder(number: usize) -> Value {
    json!({ "_placeholder": true, "num": number })
}

fn equal<T: PartialEq + std::fmt::Debug>(actual: T, expected: T) -> Result<()> {
    ensure!(actual == expected, "{actual:?} is not {expected:?}");
    Ok(())
}
