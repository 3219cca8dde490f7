//! Requests that can be repeated: a command, several commands, or a script.

use bytes::Bytes;
use redis::{Arg, Cmd, Pipeline, RedisResult, ServerError, Value};

use crate::client::connection::Connection;
use crate::client::fault::{FaultKind, RedisFault};
use crate::client::script::Script;

/// A repeatable request.
pub(crate) enum Request<'a> {
    /// A command.
    One(&'a Cmd),
    /// A command for which a permanent error is an answer.
    OneOrError(&'a Cmd),
    /// Several commands of one slot, in one round trip.
    All(&'a Pipeline),
    /// A script.
    CommandRun(ScriptCall<'a>),
    /// A script, and commands right behind it on the same connection.
    RunThen(ScriptCall<'a>, &'a [Cmd]),
}

/// A script with its keys and arguments.
#[derive(Clone, Copy)]
pub(crate) struct ScriptCall<'a> {
    pub(crate) script: &'a Script,
    pub(crate) keys: &'a [Bytes],
    pub(crate) arguments: &'a [Bytes],
}

impl Request<'_> {
    /// Approximate size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::One(command) | Self::OneOrError(command) => bytes_of(command),
            Self::All(commands) => commands.cmd_iter().map(bytes_of).sum(),
            Self::CommandRun(call) | Self::RunThen(call, _) => {
                call.keys.iter().chain(call.arguments).map(Bytes::len).sum()
            }
        }
    }

    /// Sends it once. Returns all answers or an error.
    pub(crate) async fn send(&self, connection: &mut Connection) -> RedisResult<Vec<Value>> {
        match self {
            Self::One(command) => connection.ask(command).await.map(|answer| vec![answer]),
            Self::OneOrError(command) => match connection.ask(command).await {
                Err(error) if RedisFault::of(&error).kind == FaultKind::Unexpected => {
                    let error = ServerError::try_from(error)?;
                    Ok(vec![Value::ServerError(error)])
                }
                answer => answer.map(|answer| vec![answer]),
            },
            Self::All(commands) => {
                let answers = connection.ask_all(commands).await;
                match &answers {
                    Err(error) if RedisFault::of(error).kind == FaultKind::Cluster => {
                        one_by_one(connection, commands).await
                    }
                    _ => answers,
                }
            }
            Self::CommandRun(call) => {
                let mut answer = connection.ask(&call.by_sha1()).await;
                if matches!(&answer, Err(error) if RedisFault::of(error).kind == FaultKind::NoScript) {
                    answer = connection.ask(&call.by_code()).await;
                }
                answer.map(|answer| vec![answer])
            }
            Self::RunThen(call, following) => {
                let mut answers = connection.ask_all(&pipeline(call.by_sha1(), following)).await;
                if matches!(&answers, Err(error) if RedisFault::of(error).kind == FaultKind::NoScript) {
                    answers = connection.ask_all(&pipeline(call.by_code(), following)).await;
                }
                answers
            }
        }
    }
}

impl ScriptCall<'_> {
    fn by_sha1(&self) -> Cmd {
        self.script.by_sha1(self.keys, self.arguments)
    }

    /// EVAL instead of SCRIPT LOAD, which in a Cluster would not reach the node of the keys.
    fn by_code(&self) -> Cmd {
        self.script.by_code(self.keys, self.arguments)
    }
}

fn bytes_of(command: &Cmd) -> usize {
    let arguments = command.args_iter().map(|argument| match argument {
        Arg::Simple(bytes) => bytes.len(),
        _ => 0,
    });
    arguments.sum()
}

/// Sends commands one by one: while a slot moves, its new node accepts no pipelines.
async fn one_by_one(connection: &mut Connection, commands: &Pipeline) -> RedisResult<Vec<Value>> {
    let mut answers = Vec::with_capacity(commands.len());
    for command in commands.cmd_iter() {
        answers.push(connection.ask(command).await?);
    }
    Ok(answers)
}

fn pipeline(first: Cmd, following: &[Cmd]) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(1 + following.len());
    pipeline.add_command(first);
    for command in following {
        pipeline.add_command(command.clone());
    }
    pipeline
}
