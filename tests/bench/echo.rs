//! Echo: the servers of `peers` two by two, in one run.
//!
//! 100 clients with 8 messages in flight each, several rounds in turn, medians. The load shares the machine with the
//! servers, so read the ratios, and CPU time of the server per message before messages per second.
//! `cargo bench -p plugnode-tests --bench echo`, after `make build` and `.ci/setup-tests redis npm`.

mod load;
mod peers;
mod race;
mod server;

use std::process::ExitCode;

use peers::Handler;
use tempfile::tempdir;

fn main() -> ExitCode {
    peers::take_part().unwrap_or_else(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        runtime.expect("threads can be started").block_on(races())
    })
}

async fn races() -> ExitCode {
    let folders = [(); 6].map(|()| tempdir().expect("a temporary folder can be made"));
    let [bare, native, wasm, alone, node, redis] = folders.each_ref().map(|folder| folder.path());
    let on_one = [
        peers::bare(bare).await,
        peers::node_alone(alone).await,
        peers::memory(native, Handler::Native).await,
        peers::memory(wasm, Handler::Wasm).await,
    ];
    let first = race::run("echo", &on_one).await;
    drop(on_one);
    let over_redis = [peers::node(node, 1, 1).await, peers::redis(redis, 1, 1).await];
    let second = race::run("echo over Redis, nothing kept on disk", &over_redis).await;
    drop(over_redis);
    for limit in peers::queue_limit(redis).await {
        let peers::QueueLimit {
            command,
            pipeline,
            per_second,
            cpu_micros,
        } = limit;
        println!("{command:<24} {pipeline:>4} together {per_second:>12.0}/s {cpu_micros:>10.2} µs");
    }
    println!("an order is {} bytes", peers::order(1_000_000).len());
    if first == ExitCode::SUCCESS { second } else { first }
}
