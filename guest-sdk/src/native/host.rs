//! Who takes what a native handler asks for, and the thread that it is called on.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use super::{Command, Error, KeyPage, KvError, Level, StoreError};

/// What is behind the calls that a handler makes. The functions are those of the contract, with its rules: commands and
/// writes are noted, and count once the handler has returned `Ok`.
pub trait Host: Any {
    /// Takes a command, or says why not.
    fn command(&mut self, command: Command) -> Result<(), Error>;

    /// Whether this bucket can be had.
    fn open(&mut self, bucket: &str) -> Result<(), StoreError>;

    /// The values of these keys, in their order, as this event sees them: with its own writes.
    fn get(&mut self, bucket: &str, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, StoreError>;

    /// A page of the keys that begin with `prefix`, from a cursor on, which is none at first.
    fn keys(&mut self, bucket: &str, prefix: &str, cursor: Option<u64>) -> Result<KeyPage, StoreError>;

    /// Takes writes; a key without a value is deleted.
    fn write(&mut self, bucket: &str, pairs: Vec<(String, Option<Vec<u8>>)>) -> Result<(), StoreError>;

    /// Adds to the integer under a key.
    fn add(&mut self, bucket: &str, key: &str, delta: i64) -> Result<(), KvError>;

    /// Sets a value for a time.
    fn set_with_ttl(&mut self, bucket: &str, key: &str, value: &[u8], ttl_ms: u64) -> Result<(), KvError>;

    /// The app's configuration.
    fn config(&mut self) -> Vec<(String, String)>;

    /// Takes a line for the log.
    fn log(&mut self, level: Level, context: &str, message: &str);
}

thread_local! {
    /// The host of the call that is going on, on this thread.
    static HOST: RefCell<Option<Box<dyn Host>>> = const { RefCell::new(None) };
}

/// Runs a part of a handler, whose calls on this thread go to `host`, and gives that back. A panic of the handler is
/// caught, and [`words_of`] tells what it said.
pub fn within<H: Host, T>(host: H, part: impl FnOnce() -> T) -> (thread::Result<T>, H) {
    let around = HOST.replace(Some(Box::new(host)));
    let answer = catch_unwind(AssertUnwindSafe(part));
    let host: Box<dyn Any> = HOST.replace(around).expect("put there above, and taken by nobody else");
    let host = host.downcast().expect("it is what was put there");
    (answer, *host)
}

/// What a panic said.
pub fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without words")
}

/// Asks the host of the call that is going on.
pub(super) fn ask<T>(with: impl FnOnce(&mut dyn Host) -> T) -> T {
    HOST.with_borrow_mut(|host| {
        let host = host.as_mut().expect(
            "this thread runs no handler's call: feed the handler an event by a `test::Kit`, and ask for nothing from \
             threads that a handler starts",
        );
        with(host.as_mut())
    })
}
