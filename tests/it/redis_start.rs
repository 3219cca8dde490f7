//! Start with an unusable or unsafe Redis: the error or warning says what to correct.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use plugnode_tests::{
    Cluster, Node, Redis, RedisCluster, RedisServer, Sentinels, component, free_port, run_to_end, temp_folder,
};

fn echo(url: &str) -> Cluster {
    Cluster::new(url).app("/", &component("echo"), "")
}

/// Asserts that every role refuses to start, with all these words and without the secrets.
async fn assert_refused(cluster: &Cluster, words: &[&str]) {
    let refused = ["io-node", "app-node", "frontend"].map(|role| async move {
        let folder = temp_folder();
        let cluster = cluster.clone().settings("[http]\nlisten = \"127.0.0.1:0\"");
        std::fs::write(folder.path().join("plugnode.toml"), cluster.config(role)).expect("the file can be written");
        let (status, said) = run_to_end(&["run", "-c", "plugnode.toml"], folder.path()).await;
        assert!(!status.success(), "{role} started: {said}");
        for word in words {
            assert!(said.contains(word), "{role} should be refused with {word:?}: {said}");
        }
        assert!(!said.contains("secret"), "{said}");
    });
    join_all(refused).await;
}

#[tokio::test]
async fn refuses_unreachable_redis() {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let urls = [
        format!("redis://{address}"),
        format!("rediss://:secret@{address}"),
        format!("redis+sentinel://:secret@{address}/plugnode"),
        format!("redis+cluster://:secret@{address}"),
    ];
    let refusals = urls
        .iter()
        .map(|url| async { assert_refused(&echo(url), &[&address]).await });
    join_all(refusals).await;
}

#[tokio::test]
async fn refuses_unresponsive_redis() {
    let redis = RedisServer::start().await;
    redis.pause();
    assert_refused(&echo(&redis.url()), &[&redis.address(), "trying again"]).await;
    redis.resume();
}

#[tokio::test]
async fn refuses_wrong_or_missing_password() {
    let redis = Redis::new().password("right").start().await;
    for login in ["", ":secret@", "nobody:secret@"] {
        let url = format!("redis://{login}{}", redis.address());
        assert_refused(&echo(&url), &[&redis.address(), "refuses the login", "[transport] url"]).await;
    }
}

#[tokio::test]
async fn refuses_user_without_needed_permissions() {
    let rights = "~{plugnode:* +@read +@connection +eval";
    let redis = Redis::new().user("plugnode", "secret", rights).start().await;
    let cluster = echo(&redis.url_for("plugnode", "secret"));
    assert_refused(&cluster, &[&redis.address(), "[transport] url", "HSET", "ACL SETUSER"]).await;
    redis
        .command(&["ACL", "SETUSER", "plugnode", "resetkeys", "~other:*", "+@all"])
        .await;
    assert_refused(&cluster, &[&redis.address(), "~{plugnode:*"]).await;
}

#[tokio::test]
async fn refuses_replica() {
    let (master, replica) = tokio::join!(RedisServer::start(), RedisServer::start());
    replica.replica_of(&master).await;
    assert_refused(
        &echo(&replica.url()),
        &[&replica.address(), "is a replica of", &master.address()],
    )
    .await;
}

#[tokio::test]
async fn refuses_untrusted_certificate() {
    let redis = Redis::new().tls().start().await;
    assert_refused(&echo(&redis.url()), &[&redis.address(), "certificate"]).await;
}

#[tokio::test]
async fn refuses_url_scheme_of_other_redis_kind() {
    let (cluster, single) = tokio::join!(RedisCluster::start(), RedisServer::start());
    let one = cluster.servers()[0].url();
    assert_refused(&echo(&one), &["redis+cluster://"]).await;
    let as_cluster = single.url().replace("redis://", "redis+cluster://");
    assert_refused(&echo(&as_cluster), &[&single.address(), "redis://"]).await;
}

#[tokio::test]
async fn refuses_master_unknown_to_sentinels() {
    let sentinels = Sentinels::start().await;
    let url = sentinels.url().replace("/plugnode", "/other");
    assert_refused(&echo(&url), &["`other`"]).await;
}

#[tokio::test]
async fn refuses_other_partition_or_shard_count() {
    let redis = RedisServer::start().await;
    let app_node = echo(&redis.url()).transport("partitions = 16").start_app().await;
    for line in ["partitions = 32", "partitions = 16\nshards = 2"] {
        let key = if line.contains("shards") {
            "shards"
        } else {
            "partitions"
        };
        assert_refused(&echo(&redis.url()).transport(line), &[key, "prefix", "{plugnode:"]).await;
    }
    // The layout stays after a restart.
    assert!(app_node.stop().await.success());
    assert_refused(&echo(&redis.url()), &["partitions"]).await;
    echo(&redis.url()).transport("partitions = 16").start_app().await;
}

#[tokio::test]
async fn refuses_foreign_keys_under_its_prefix() {
    let redis = RedisServer::start().await;
    let words = ["something unknown", "[transport] prefix", "{plugnode:"];
    redis.command(&["SET", "{plugnode:0}:meta", "mine"]).await;
    assert_refused(&echo(&redis.url()), &words).await;
    redis.command(&["DEL", "{plugnode:0}:meta"]).await;
    redis.command(&["HSET", "{plugnode:0}:meta", "mine", "too"]).await;
    assert_refused(&echo(&redis.url()), &words).await;
    redis
        .command(&["HSET", "{plugnode:0}:meta", "format", "my format"])
        .await;
    assert_refused(&echo(&redis.url()), &["my format"]).await;
    assert_eq!(
        redis.command(&["HLEN", "{plugnode:0}:meta"]).await,
        "2",
        "the foreign key is unchanged"
    );
}

#[tokio::test]
async fn sigterm_ends_start_that_waits_for_redis() {
    let redis = RedisServer::start().await;
    redis.pause();
    let mut node = Node::begin(&echo(&redis.url()).config("io-node"));
    node.logged("trying again").await;
    node.terminate();
    let begun = Instant::now();
    node.ended().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn warns_of_eviction_policy_that_loses_data() {
    let redis = Redis::new()
        .setting("maxmemory 100mb")
        .setting("maxmemory-policy allkeys-lru")
        .start()
        .await;
    let app_node = echo(&redis.url()).start_app().await;
    let line = app_node.logged("allkeys-lru").await;
    assert!(line.contains("WARN") && line.contains("noeviction"), "{line}");
}

#[tokio::test]
async fn notes_redis_without_persistence() {
    let redis = RedisServer::start().await;
    let app_node = echo(&redis.url()).start_app().await;
    let line = app_node.logged("keeps nothing on disk").await;
    assert!(line.contains("WARN"), "{line}");
    let redis = Redis::new().aof("always").start().await;
    let app_node = echo(&redis.url()).start_app().await;
    assert!(!app_node.log().contains("on disk"), "{}", app_node.log());
}
