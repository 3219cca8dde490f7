//! Tests of the fixture: the proxy, the Redis servers and paused processes behave as other tests rely on.

use std::time::{Duration, Instant};

use plugnode_tests::{Client, Node, Proxy, Redis, RedisCluster, Sentinels, component, within};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Time without data after which nothing more is expected.
const SILENCE: Duration = Duration::from_millis(300);

/// Starts a TCP echo server; returns its address.
async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are free ports");
    let address = listener.local_addr().expect("it is bound").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reads, mut writes) = stream.split();
                let _ = tokio::io::copy(&mut reads, &mut writes).await;
            });
        }
    });
    address
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(("127.0.0.1", proxy.port()))
        .await
        .expect("the proxy listens")
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.expect("the connection is open");
}

async fn expect_echo(stream: &mut TcpStream, text: &str) {
    let mut heard = vec![0; text.len()];
    let all = stream.read_exact(&mut heard);
    within("the echo comes", all).await.expect("the connection is open");
    assert_eq!(String::from_utf8_lossy(&heard), text);
}

async fn await_close(stream: &mut TcpStream) {
    let mut heard = Vec::new();
    // A reset counts as an end.
    let _ = within("the connection ends", stream.read_to_end(&mut heard)).await;
    assert!(heard.is_empty(), "{heard:?}");
}

async fn assert_silent(stream: &mut TcpStream) {
    let mut byte = [0];
    let heard = tokio::time::timeout(SILENCE, stream.read(&mut byte)).await;
    assert!(heard.is_err(), "{heard:?}");
}

#[tokio::test]
async fn cut_proxy_closes_and_refuses_connections() {
    let proxy = Proxy::to(echo().await).await;
    let mut stream = connect(&proxy).await;
    send(&mut stream, "one").await;
    expect_echo(&mut stream, "one").await;
    proxy.cut();
    await_close(&mut stream).await;
    await_close(&mut connect(&proxy).await).await;
    proxy.mend();
    let mut stream = connect(&proxy).await;
    send(&mut stream, "two").await;
    expect_echo(&mut stream, "two").await;
    proxy.reset();
    await_close(&mut stream).await;
    let mut stream = connect(&proxy).await;
    send(&mut stream, "three").await;
    expect_echo(&mut stream, "three").await;
}

#[tokio::test]
async fn delay_adds_latency_without_reducing_throughput() {
    let proxy = Proxy::to(echo().await).await;
    let mut stream = connect(&proxy).await;
    proxy.delay(Duration::from_millis(100));
    let begin = Instant::now();
    for _ in 0..100 {
        send(&mut stream, "some").await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    expect_echo(&mut stream, &"some".repeat(100)).await;
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(200), "{took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn blackhole_keeps_connections_and_drops_bytes() {
    let proxy = Proxy::to(echo().await).await;
    let mut old = connect(&proxy).await;
    send(&mut old, "before").await;
    expect_echo(&mut old, "before").await;
    proxy.blackhole();
    let mut new = connect(&proxy).await;
    for stream in [&mut old, &mut new] {
        send(stream, "lost").await;
        assert_silent(stream).await;
    }
    proxy.mend();
    await_close(&mut old).await;
    await_close(&mut new).await;
    let mut stream = connect(&proxy).await;
    send(&mut stream, "after").await;
    expect_echo(&mut stream, "after").await;
}

#[tokio::test]
async fn held_bytes_arrive_after_mend() {
    let proxy = Proxy::to(echo().await).await;
    let mut stream = connect(&proxy).await;
    send(&mut stream, "before").await;
    expect_echo(&mut stream, "before").await;
    proxy.hold();
    send(&mut stream, "late").await;
    assert_silent(&mut stream).await;
    proxy.mend();
    expect_echo(&mut stream, "late").await;
}

#[tokio::test]
async fn flaky_proxy_cuts_mid_stream() {
    let proxy = Proxy::to(echo().await).await;
    proxy.flaky(Duration::from_millis(20));
    let mut cut_in_the_middle = 0;
    for _ in 0..20 {
        let mut stream = connect(&proxy).await;
        let (mut reads, mut writes) = stream.split();
        let talk = async { while writes.write_all(b"0123456789").await.is_ok() {} };
        let mut heard = Vec::new();
        let listen = reads.read_to_end(&mut heard);
        let (_, _) = within("the connection is cut", async { tokio::join!(talk, listen) }).await;
        cut_in_the_middle += usize::from(heard.len() % 10 > 0);
    }
    assert!(cut_in_the_middle > 5, "{cut_in_the_middle} of 20");
    proxy.mend();
    let mut stream = connect(&proxy).await;
    tokio::time::sleep(SILENCE).await;
    send(&mut stream, "still here").await;
    expect_echo(&mut stream, "still here").await;
}

#[tokio::test]
async fn killed_redis_with_aof_keeps_acknowledged_writes() {
    let mut redis = Redis::new().aof("always").start().await;
    for number in 0..100 {
        redis.command(&["RPUSH", "list", &number.to_string()]).await;
    }
    let (pid, port) = (redis.pid(), redis.port());
    redis.kill().await;
    assert!(!redis.is_running());
    assert!(redis.try_command(&["PING"]).await.is_err());
    redis.restart().await;
    assert_eq!((redis.pid() != pid, redis.port()), (true, port));
    assert_eq!(redis.command(&["LLEN", "list"]).await, "100");
    redis.pause();
    let silence = tokio::time::timeout(SILENCE, redis.try_command(&["PING"])).await;
    assert!(silence.is_err(), "{silence:?}");
    redis.resume();
    assert_eq!(redis.command(&["PING"]).await, "PONG");
}

#[tokio::test]
async fn sentinels_fail_over_on_request() {
    let mut sentinels = Sentinels::start().await;
    let first = sentinels.master().port();
    sentinels.master().command(&["SET", "key", "one"]).await;
    sentinels.master().command(&["WAIT", "1", "1000"]).await;
    sentinels.promote().await;
    assert_ne!(sentinels.master().port(), first);
    assert_eq!(sentinels.master().command(&["GET", "key"]).await, "one");
    assert_eq!(sentinels.replica().port(), first);
}

#[tokio::test]
async fn sentinels_fail_over_when_master_is_killed() {
    let mut sentinels = Sentinels::of(Redis::new().password("open sesame")).await;
    let first = sentinels.master().port();
    sentinels.kill_master().await;
    sentinels.await_promotion().await;
    assert_ne!(sentinels.master().port(), first);
    sentinels.master().command(&["SET", "key", "two"]).await;
    sentinels.restart_old_master().await;
    sentinels.await_replica().await;
    assert_eq!(sentinels.replica().command(&["GET", "key"]).await, "two");
}

#[tokio::test]
async fn slot_migrates_under_writes() {
    let cluster = RedisCluster::start().await;
    let key = |number: usize| format!("{{plugnode:0}}:{number}");
    let slot = cluster.slot_of(&key(0)).await;
    let from = cluster.owner_of(slot).await;
    for number in 0..50 {
        cluster.servers()[from].command(&["SET", &key(number), "0"]).await;
    }
    let mut redirected = 0;
    let write = async {
        // The old owner accepts the keys that it still has and redirects for the others.
        for round in 0.. {
            for number in 0..50 {
                match cluster.servers()[from].try_command(&["INCR", &key(number)]).await {
                    Ok(_) => {}
                    Err(error) if error.to_string().starts_with("ASK") => redirected += 1,
                    Err(error) if error.to_string().starts_with("MOVED") => return round,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        unreachable!("the slot moves eventually")
    };
    let (rounds, ()) = tokio::join!(write, cluster.move_slots_of_prefix("plugnode", 1));
    let to = cluster.owner_of(slot).await;
    assert_ne!(to, from);
    assert!(redirected > 0, "no write met the partly migrated slot");
    assert_eq!(cluster.servers()[to].command(&["DBSIZE"]).await, "50");
    let written = cluster.servers()[to].command(&["GET", &key(0)]).await;
    assert!(written.parse::<usize>().expect("it is a number") <= rounds + 1);
}

#[tokio::test]
async fn paused_node_answers_after_resume() {
    let mut node = Node::app(&component("echo"), "").await;
    let mut client = Client::connect(&node).await;
    node.pause();
    client.emit("n", &[json!(1)]).await;
    assert!(tokio::time::timeout(SILENCE, client.next()).await.is_err());
    node.resume();
    assert_eq!(client.event().await.0, "n");
    node.pause();
    node.kill9().await;
    assert!(!node.is_running());
}
