//! One physical connection: to a single server, or to all servers of a Cluster.

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, Pipeline, RedisResult, Value};

/// A connection, which will break some day.
#[derive(Clone)]
pub(crate) enum Connection {
    /// To one server.
    Node(MultiplexedConnection),
    /// To a Cluster, with the response timeout. The client finds moved slots and lost nodes by itself.
    Cluster(ClusterConnection, Duration),
}

impl Connection {
    /// Sets the response timeout.
    pub(crate) fn set_response_timeout(&mut self, response: Duration) {
        match self {
            Self::Node(connection) => connection.set_response_timeout(response),
            Self::Cluster(_, timeout) => *timeout = response,
        }
    }

    /// Sends one command.
    pub(crate) async fn ask(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::Node(connection) => connection.req_packed_command(command).await,
            Self::Cluster(connection, timeout) => within(*timeout, connection.req_packed_command(command)).await,
        };
        answer?.extract_error()
    }

    /// Sends several commands. An error of one is an error of all.
    pub(crate) async fn ask_all(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        let answers = match self {
            Self::Node(connection) => connection.req_packed_commands(commands, 0, commands.len()).await,
            Self::Cluster(connection, timeout) => {
                within(*timeout, connection.req_packed_commands(commands, 0, commands.len())).await
            }
        };
        answers?.into_iter().map(Value::extract_error).collect()
    }
}

/// The Cluster client has one fixed response timeout, so ours is enforced here.
async fn within<T>(timeout: Duration, answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    let late = |_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
    tokio::time::timeout(timeout, answer).await.unwrap_or_else(late)
}
