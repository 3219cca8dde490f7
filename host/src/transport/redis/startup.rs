//! What is looked at before Redis is used.

use super::RedisSettings;
use super::server::{Server, unusable};
use crate::transport::Result;
use std::time::Duration;

pub(super) async fn examine(server: &Server, _settings: &RedisSettings) -> Result<()> {
    let connected = server.connect(Duration::from_secs(2)).await;
    let mut connection = connected.map_err(|trouble| unusable(trouble.words(&server.to_string())))?;
    let pong = connection.ask(&redis::cmd("PING")).await;
    pong.map(|_| ()).map_err(|error| unusable(error.to_string()))
}
