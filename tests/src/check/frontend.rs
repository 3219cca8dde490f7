//! Fetches the list of io-nodes from a frontend, with a hand-written GET.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The URLs of the io-nodes that a frontend at `http://host:port` lists in its `/config.json`.
///
/// # Errors
/// When the frontend cannot be reached or lists no io-node.
pub async fn io_nodes(frontend: &str) -> Result<Vec<String>> {
    let authority = frontend
        .strip_prefix("http://")
        .with_context(|| format!("{frontend} is not a URL such as http://127.0.0.1:8080"))?;
    let (authority, path) = match authority.trim_end_matches('/').split_once('/') {
        Some((authority, path)) => (authority, format!("/{path}")),
        None => (authority.trim_end_matches('/'), "/config.json".to_owned()),
    };
    let answer = timeout(Duration::from_secs(10), get(authority, &path));
    let answer = answer.await.map_err(|_| anyhow!("{frontend} does not answer"))??;
    let list: Vec<Value> =
        serde_json::from_str(&answer).with_context(|| format!("http://{authority}{path} is no list of io-nodes"))?;
    let urls: Option<Vec<String>> = list
        .iter()
        .map(|node| Some(format!("http://{}:{}", node["host"].as_str()?, node["port"].as_u64()?)))
        .collect();
    match urls {
        Some(urls) if !urls.is_empty() => Ok(urls),
        _ => bail!("http://{authority}{path} lists no io-node"),
    }
}

async fn get(authority: &str, path: &str) -> Result<String> {
    let address = match authority.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => authority.to_owned(),
        _ => format!("{authority}:80"),
    };
    let connection = TcpStream::connect(&address).await;
    let mut connection = connection.with_context(|| format!("cannot connect to {address}"))?;
    // HTTP/1.0: no chunked body, and the answer ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    if head.split(' ').nth(1) != Some("200") {
        bail!("{address} answers {}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}
