//! A minimal Redis client: a new connection for each command, so that no state survives a kill or a cut.

use std::io::{Error, ErrorKind, Result};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Time-out of a command.
const PATIENCE: Duration = Duration::from_secs(5);

/// User and password.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

/// Runs one command; returns the answer as text, one item a line, or the error that Redis answers.
pub(crate) async fn ask(port: u16, login: Option<&Login>, command: &[&str]) -> Result<String> {
    let answer = async {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
        if let Some(login) = login {
            send(&mut stream, &["AUTH", &login.user, &login.password]).await?;
            read(&mut stream).await?;
        }
        send(&mut stream, command).await?;
        read(&mut stream).await
    };
    let silence = || Error::new(ErrorKind::TimedOut, format!("no answer in {PATIENCE:?}"));
    tokio::time::timeout(PATIENCE, answer)
        .await
        .unwrap_or_else(|_| Err(silence()))
}

async fn send(stream: &mut BufReader<TcpStream>, command: &[&str]) -> Result<()> {
    let mut bytes = format!("*{}\r\n", command.len());
    for word in command {
        bytes.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(bytes.as_bytes()).await
}

/// Reads an answer; nested lists are flattened.
async fn read(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut items = Vec::new();
    let mut due = 1;
    while due > 0 {
        due -= 1;
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).ok_or(ErrorKind::InvalidData)?;
        match kind {
            "+" | ":" => items.push(rest.to_owned()),
            "-" => return Err(Error::other(rest.to_owned())),
            "$" => items.push(bulk(stream, number(rest)?).await?),
            "*" => due += number(rest)?.max(0),
            _ => return Err(Error::other(format!("{line:?} is not RESP"))),
        }
    }
    Ok(items.join("\n"))
}

/// Reads a text of this length; null (-1) becomes an empty text.
async fn bulk(stream: &mut BufReader<TcpStream>, length: i64) -> Result<String> {
    let Ok(length) = usize::try_from(length) else {
        return Ok(String::new());
    };
    let mut bytes = vec![0; length + "\r\n".len()];
    stream.read_exact(&mut bytes).await?;
    bytes.truncate(length);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn number(text: &str) -> Result<i64> {
    text.parse()
        .map_err(|_| Error::other(format!("{text:?} is not a length")))
}
