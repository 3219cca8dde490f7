//! A client that is told of disconnects. It connects again when its connection ends, and each time is a watch of its own.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::client::{Fleet, Phase};
use super::history::{EventName, Gone, Watch};
use super::socket::{Packet, Socket, Target};

const PAUSE: Duration = Duration::from_millis(100);
const WELCOME: Duration = Duration::from_secs(30);

/// Connects, and waits until it is told of disconnects.
pub(super) async fn begin(target: &Target, fleet: &Fleet) -> Result<(Socket, Watch)> {
    let mut socket = Socket::connect(target, &json!({ "watch": true })).await?;
    let welcomed = timeout(WELCOME, async {
        loop {
            match socket.next().await? {
                Packet::Event(event, ..) if event == "welcome" => return anyhow::Ok(()),
                Packet::Disconnect => bail!("the server disconnected it"),
                _ => {}
            }
        }
    });
    match welcomed.await {
        Ok(welcomed) => welcomed?,
        Err(_) => {
            bail!("no welcome comes: is the handler `recorder` bound to this namespace, and does an app-node run?")
        }
    }
    let watch = Watch {
        welcomed_at: fleet.progress.now(),
        ..Default::default()
    };
    Ok((socket, watch))
}

/// Watches until told to leave.
pub(super) async fn run(
    fleet: Arc<Fleet>,
    mut socket: Socket,
    first: Watch,
    number: usize,
    mut phases: watch::Receiver<Phase>,
) -> Vec<Watch> {
    let mut watches = vec![first];
    let mut turn = number;
    loop {
        let current = watches.last_mut().expect("there is always one");
        if listen(&fleet, &mut socket, current, &mut phases).await {
            socket.leave().await;
            return watches;
        }
        // Lost: begins anew, wherever there is a node.
        loop {
            turn += 1;
            let target = fleet.targets.at(turn);
            tokio::select! {
                begun = begin(&target, &fleet) => if let Ok((again, watch)) = begun {
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

/// Notes who goes, and says whether it stayed to the end.
async fn listen(fleet: &Fleet, socket: &mut Socket, watch: &mut Watch, phases: &mut watch::Receiver<Phase>) -> bool {
    loop {
        tokio::select! {
            packet = socket.next() => match packet {
                Ok(Packet::Event(event, args, _)) if event == "gone" => {
                    fleet.progress.has_heard();
                    watch.gone.extend(gone(fleet, &args));
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
    // When the run is gone without a word, that is an end, too.
    let _ = phases.wait_for(|phase| *phase == Phase::Leaving).await;
}

/// Who went, if it is one of this run.
fn gone(fleet: &Fleet, args: &[Value]) -> Option<Gone> {
    let text = |place: usize| args.get(place).and_then(Value::as_str);
    Some(Gone {
        at: fleet.progress.now(),
        who: fleet.place(text(0)?)?,
        reason: text(1)?.to_owned(),
        event: text(3).and_then(EventName::read).unwrap_or_default(),
    })
}
