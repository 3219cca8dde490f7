//! The limits of Redis on this machine: `redis-benchmark` with the commands of a queue.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::redis_server;

/// Approximate bytes of an event in a queue.
const EVENT: usize = 200;
const CONNECTIONS: usize = 50;
/// Entries per XREAD.
const BATCH: usize = 100;
/// Commands sent together. With 1, each waits for the reply to the one before.
const PIPELINES: [usize; 2] = [1, 32];
const SCRIPT: &str = "redis.call('XADD', KEYS[1], 'MAXLEN', '~', 10000, '*', 'event', ARGV[1]) return 1";

/// The limit of one command.
pub(crate) struct QueueLimit {
    /// The command, and the number of entries.
    pub(crate) command: &'static str,
    /// Commands sent together.
    pub(crate) pipeline: usize,
    pub(crate) per_second: f64,
    /// CPU time of Redis per command, in microseconds.
    pub(crate) cpu_micros: f64,
}

/// Measures all commands on a new Redis.
pub(crate) async fn queue_limits(folder: &Path) -> Vec<QueueLimit> {
    let (redis, port) = redis_server(folder).await;
    let port = port.to_string();
    let event = "x".repeat(EVENT);
    let sha = output_of("redis-cli", &["-p", &port, "SCRIPT", "LOAD", SCRIPT]).await;
    let fill = [
        "-p",
        &port,
        "-n",
        &BATCH.to_string(),
        "XADD",
        "read",
        "*",
        "event",
        &event,
    ];
    output_of("redis-benchmark", &fill).await;
    let batch = BATCH.to_string();
    let commands: [(_, usize, &[&str]); 3] = [
        (
            "XADD",
            400_000,
            &["XADD", "add", "MAXLEN", "~", "10000", "*", "event", &event],
        ),
        (
            "EVALSHA of one XADD",
            200_000,
            &["EVALSHA", sha.trim(), "1", "script", &event],
        ),
        (
            "XREAD of 100 entries",
            20_000,
            &["XREAD", "COUNT", &batch, "STREAMS", "read", "0"],
        ),
    ];
    let mut limits = Vec::new();
    for (name, times, command) in commands {
        for pipeline in PIPELINES {
            // Without a pipeline it is many times slower, so fewer commands are enough.
            let times = if pipeline == 1 { times / 4 } else { times };
            let before = redis.cpu();
            let per_second = run(&port, times, pipeline, command).await;
            limits.push(QueueLimit {
                command: name,
                pipeline,
                per_second,
                cpu_micros: (redis.cpu() - before).as_secs_f64() * 1e6 / times as f64,
            });
        }
    }
    limits
}

/// Commands per second.
async fn run(port: &str, times: usize, pipeline: usize, command: &[&str]) -> f64 {
    let (times, pipeline, connections) = (times.to_string(), pipeline.to_string(), CONNECTIONS.to_string());
    let mut arguments = vec!["-p", port, "--csv", "-n", &times, "-P", &pipeline, "-c", &connections];
    arguments.extend(command);
    let output = output_of("redis-benchmark", &arguments).await;
    // CSV with a header line: the name in quotes, which may contain commas, and then figures in quotes.
    output
        .lines()
        .last()
        .and_then(|line| line.rsplit("\",\"").nth(6))
        .and_then(|figure| figure.parse().ok())
        .unwrap_or_else(|| panic!("cannot parse the output of redis-benchmark:\n{output}"))
}

async fn output_of(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    let output = command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap_or_else(|error| panic!("cannot run {program}: {error}; install redis-tools"));
    assert!(output.status.success(), "{program} failed: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
