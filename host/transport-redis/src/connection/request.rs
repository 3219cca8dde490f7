//! What can be sent to Redis and sent again: a command, several, or a script.

use bytes::Bytes;
use redis::{Arg, Cmd, Pipeline, RedisResult, ServerError, Value};

use super::script::Script;
use super::server::Connection;
use super::trouble::{Kind, Trouble};

/// Something to send, as often as it takes.
pub(super) enum Request<'a> {
    /// A command.
    One(&'a Cmd),
    /// A command, which an error may answer.
    OneOrError(&'a Cmd),
    /// Several of one slot, in one round trip.
    All(&'a Pipeline),
    /// A script.
    Run(Call<'a>),
    /// A script and what follows it on the same connection.
    RunThen(Call<'a>, &'a [Cmd]),
}

/// A script with what it is given.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) script: &'a Script,
    pub(super) keys: &'a [Bytes],
    pub(super) arguments: &'a [Bytes],
}

impl Request<'_> {
    /// How many bytes it has, about.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::One(command) | Self::OneOrError(command) => bytes_of(command),
            Self::All(commands) => commands.cmd_iter().map(bytes_of).sum(),
            Self::Run(call) | Self::RunThen(call, _) => call.keys.iter().chain(call.arguments).map(Bytes::len).sum(),
        }
    }

    /// Sends it once. All is answered, or there is an error.
    pub(super) async fn send(&self, connection: &mut Connection) -> RedisResult<Vec<Value>> {
        match self {
            Self::One(command) => connection.ask(command).await.map(|answer| vec![answer]),
            Self::OneOrError(command) => match connection.ask(command).await {
                Err(error) if Trouble::of(&error).kind == Kind::Unexpected => {
                    let error = ServerError::try_from(error)?;
                    Ok(vec![Value::ServerError(error)])
                }
                answer => answer.map(|answer| vec![answer]),
            },
            Self::All(commands) => {
                let answers = connection.ask_all(commands).await;
                match &answers {
                    Err(error) if Trouble::of(error).kind == Kind::Cluster => one_by_one(connection, commands).await,
                    _ => answers,
                }
            }
            Self::Run(call) => {
                let mut answer = connection.ask(&call.by_sha1()).await;
                if matches!(&answer, Err(error) if Trouble::of(error).kind == Kind::NoScript) {
                    answer = connection.ask(&call.by_code()).await;
                }
                answer.map(|answer| vec![answer])
            }
            Self::RunThen(call, following) => {
                let mut answers = connection.ask_all(&pipeline(call.by_sha1(), following)).await;
                if matches!(&answers, Err(error) if Trouble::of(error).kind == Kind::NoScript) {
                    answers = connection.ask_all(&pipeline(call.by_code(), following)).await;
                }
                answers
            }
        }
    }
}

impl Call<'_> {
    fn by_sha1(&self) -> Cmd {
        self.script.by_sha1(self.keys, self.arguments)
    }

    /// In a Cluster too this reaches the node of the keys, which loading a script would not.
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

/// While a slot moves, its new node serves each command by itself only.
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
