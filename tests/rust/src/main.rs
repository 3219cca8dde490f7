//! `rust-client URL[,URL…]`: sioc, a Socket.IO client in Rust, against the configuration `main` of the handler
//! `conformance`. With several URLs, the io-nodes of one cluster, clients that exchange messages use different ones. Prints a
//! line for each case, and exits with a non-zero code when one failed.

mod cases;
mod client;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::client::By;

/// Time-out of a case.
const LIMIT: Duration = Duration::from_secs(20);
/// Attempts for a case: the configuration's ping time-out is 200 ms, which a busy machine may exceed.
const TRIES: u32 = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [urls] = arguments.as_slice() else {
        eprintln!("usage: rust-client URL[,URL…]");
        return ExitCode::from(2);
    };
    let urls: Vec<&str> = urls.split(',').collect();
    let (mut passed, mut failed) = (0, 0);
    for by in [By::Websocket, By::Polling] {
        for (what, act) in cases::ALL {
            let name = format!("{by}: {what}");
            let cluster = cases::Cluster { urls: &urls, by };
            if attempt(&name, &cluster, *act).await {
                passed += 1;
            } else {
                failed += 1;
            }
        }
    }
    if failed > 0 {
        eprintln!("{failed} of {} cases failed", passed + failed);
        return ExitCode::FAILURE;
    }
    println!("all {passed} cases passed");
    ExitCode::SUCCESS
}

/// Whether the case passed.
async fn attempt(name: &str, cluster: &cases::Cluster<'_>, act: cases::Case) -> bool {
    for number in 1..=TRIES {
        let start = Instant::now();
        let failure = match timeout(LIMIT, act(cluster)).await {
            Ok(Ok(())) => {
                let again = if number > 1 {
                    format!(", at try {number}")
                } else {
                    String::new()
                };
                println!("ok      {name} ({} ms{again})", start.elapsed().as_millis());
                return true;
            }
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("it took more than {LIMIT:?}"),
        };
        let word = if number < TRIES { "again " } else { "FAILED" };
        println!("{word}  {name}: {failure}");
    }
    false
}
