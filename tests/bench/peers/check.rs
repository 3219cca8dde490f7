//! Checks that all peers behave the same: two clients send every event, and must receive the same bytes from each server.

use std::path::Path;
use std::process::ExitCode;

use plugnode_tests::within;

use super::probe::Probe;
use super::{Handler, bare, memory, node, node_alone, order, redis};
use crate::server::Server;

/// The sender, its text, and the recipients of the reply in order.
type Step<'a> = (usize, &'a str, &'a [usize]);

const ADA: usize = 0;
const BOB: usize = 1;

/// Checks every peer, and prints the result of each.
pub(super) fn run() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("cannot start the runtime");
    match runtime.block_on(check()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

async fn check() -> bool {
    let expected = expected();
    let mut all_agree = true;
    // One peer at a time; each is stopped before the next starts.
    for number in 0.. {
        let folder = tempfile::tempdir().expect("cannot create a temporary folder");
        let Some((nodes, server)) = peer(number, folder.path()).await else {
            break;
        };
        let received = run_steps(&server).await;
        let agrees = received == expected;
        println!("{} {} {nodes}", if agrees { "same" } else { "DIFFERENT" }, server.name);
        for (received, expected) in received
            .iter()
            .zip(&expected)
            .filter(|(received, expected)| received != expected)
        {
            println!("  received: {received}\n  expected: {expected}");
        }
        all_agree &= agrees;
    }
    all_agree
}

async fn peer(number: usize, folder: &Path) -> Option<(&'static str, Server)> {
    Some(match number {
        0 => ("", memory(folder, Handler::Wasm).await),
        1 => ("", memory(folder, Handler::Native).await),
        2 => ("", bare(folder).await),
        3 => ("", node_alone(folder).await),
        4 => ("1 + 1", redis(folder, 1, 1).await),
        5 => ("2 + 2", redis(folder, 2, 2).await),
        6 => ("1 + 1", node(folder, 1, 1).await),
        7 => ("2 + 2", node(folder, 2, 2).await),
        _ => return None,
    })
}

/// Runs all steps, and returns the texts received.
async fn run_steps(server: &Server) -> Vec<String> {
    let ports = [server.ports[0], server.ports[server.ports.len() - 1]];
    let mut clients = [Probe::connect(ports[ADA]).await, Probe::connect(ports[BOB]).await];
    let order = format!(r#"42["json",{}]"#, order(7));
    let mut received = Vec::new();
    for (sender, text, recipients) in steps(&order) {
        clients[sender].send(text).await;
        for &recipient in recipients {
            let what = format!("{} answers {text}", server.name);
            received.push(within(&what, clients[recipient].receive()).await);
        }
    }
    received
}

/// The last step shows that no unexpected text arrived before.
fn steps(order: &str) -> [Step<'_>; 13] {
    [
        (ADA, r#"42["echo",{"b":1,"a":[0.5,"ü"]},"two",null]"#, &[ADA]),
        (BOB, r#"42["echo"]"#, &[BOB]),
        (ADA, r#"42["all",{"id":1}]"#, &[ADA, BOB]),
        (ADA, r#"4217["join","red"]"#, &[ADA]),
        (ADA, r#"42["room","red",1]"#, &[ADA]),
        (BOB, r#"420["join","red"]"#, &[BOB]),
        (BOB, r#"42["room","red",2,"more"]"#, &[BOB, ADA]),
        (ADA, r#"42["room","green",3]"#, &[]),
        (ADA, order, &[ADA]),
        (ADA, r#"42["count",1000000]"#, &[ADA]),
        (ADA, r#"42["count",1000001]"#, &[ADA]),
        (BOB, r#"42["count",1000002]"#, &[BOB]),
        (BOB, r#"42["all","end"]"#, &[ADA, BOB]),
    ]
}

fn expected() -> Vec<String> {
    let order = order(7).replace(r#""count":1,"#, r#""count":2,"#);
    [
        r#"42["echo",{"b":1,"a":[0.5,"ü"]},"two",null]"#,
        r#"42["echo"]"#,
        r#"42["all",{"id":1}]"#,
        r#"42["all",{"id":1}]"#,
        r#"4317["ok"]"#,
        r#"42["room","red",1]"#,
        r#"430["ok"]"#,
        r#"42["room","red",2,"more"]"#,
        r#"42["room","red",2,"more"]"#,
        &format!(r#"42["json",{order}]"#),
        r#"42["count",1,1000000]"#,
        r#"42["count",2,1000001]"#,
        r#"42["count",1,1000002]"#,
        r#"42["all","end"]"#,
        r#"42["all","end"]"#,
    ]
    .map(str::to_owned)
    .into()
}
