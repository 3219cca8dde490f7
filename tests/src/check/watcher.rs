//! A client that receives the disconnects of others, and what publishers send. It reconnects when its connection ends; each connection is a [`Watch`].

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::client::{Phase, SharedState};
use super::history::{DisconnectNotice, EventId, Watch};
use super::publisher;
use super::socket::{Packet, Socket, Target};

/// The channel that the handler subscribes watchers to.
pub(super) const CHANNEL: &str = "watchers";
const PAUSE: Duration = Duration::from_millis(100);
const WELCOME: Duration = Duration::from_secs(30);

/// Connects, and waits until it receives disconnects.
pub(super) async fn begin(target: &Target, shared: &SharedState) -> Result<(Socket, Watch)> {
    let mut socket = Socket::connect(target, &json!({ "watch": true })).await?;
    let welcomed = timeout(WELCOME, async {
        loop {
            match socket.next().await? {
                Packet::Event(event, ..) if event == "welcome" => return anyhow::Ok(()),
                Packet::Disconnect => bail!("the server disconnected the watcher"),
                _ => {}
            }
        }
    });
    match welcomed.await {
        Ok(welcomed) => welcomed?,
        Err(_) => {
            bail!(
                "no welcome within 30 s; is the handler `recorder` bound to this namespace, and does an app-node run?"
            )
        }
    }
    let watch = Watch {
        welcomed_at: shared.progress.now(),
        ..Default::default()
    };
    Ok((socket, watch))
}

/// Watches until the run's last phase.
pub(super) async fn run(
    shared: Arc<SharedState>,
    mut socket: Socket,
    first: Watch,
    number: usize,
    mut phases: watch::Receiver<Phase>,
) -> Vec<Watch> {
    let mut watches = vec![first];
    let mut turn = number;
    loop {
        let current = watches.last_mut().expect("there is always one");
        if listen(&shared, &mut socket, current, &mut phases).await {
            socket.leave().await;
            return watches;
        }
        // The connection is lost: reconnect to the next node.
        loop {
            turn += 1;
            let target = shared.targets.at(turn);
            tokio::select! {
                begun = begin(&target, &shared) => if let Ok((again, watch)) = begun {
                    socket = again;
                    watches.push(watch);
                    break;
                },
                () = left(&mut phases) => return watches,
            }
            sleep(PAUSE).await;
        }
    }
}

/// Records disconnects, and returns whether the watcher stayed to the end.
async fn listen(
    shared: &SharedState,
    socket: &mut Socket,
    watch: &mut Watch,
    phases: &mut watch::Receiver<Phase>,
) -> bool {
    loop {
        tokio::select! {
            packet = socket.next() => match packet {
                Ok(Packet::Event(event, args, _)) if event == "gone" => {
                    shared.progress.has_received();
                    watch.notices.extend(notice(shared, &args));
                }
                Ok(Packet::Event(event, args, _)) if event == publisher::EVENT => {
                    shared.progress.has_received();
                    watch.publishes.extend(publish(shared, &args));
                }
                Ok(Packet::Disconnect) | Err(_) => return false,
                Ok(_) => {}
            },
            () = left(phases) => {
                watch.stayed = true;
                return true;
            }
        }
    }
}

async fn left(phases: &mut watch::Receiver<Phase>) {
    // A dropped sender ends the run as well.
    let _ = phases.wait_for(|phase| *phase == Phase::Leaving).await;
}

/// Publisher and number, if it is a publish of this run.
fn publish(shared: &SharedState, args: &[Value]) -> Option<(u32, u64)> {
    let is_of_run = args.first()?.as_str()? == shared.run;
    let (publisher, number) = (args.get(1)?.as_u64()?, args.get(2)?.as_u64()?);
    is_of_run.then_some((publisher as u32, number))
}

/// The disconnect, if it is of a client of this run.
fn notice(shared: &SharedState, args: &[Value]) -> Option<DisconnectNotice> {
    let text = |place: usize| args.get(place).and_then(Value::as_str);
    Some(DisconnectNotice {
        at: shared.progress.now(),
        client: shared.place(text(0)?)?,
        reason: text(1)?.to_owned(),
        event: text(3).and_then(EventId::parse).unwrap_or_default(),
    })
}
