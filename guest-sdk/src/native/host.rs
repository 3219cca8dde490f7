//! The host of native handlers, and its binding to the current thread.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use super::{Command, Error, KeyPage, KvError, Level, PresenceError, PresencePage, StoreError};

/// The host functions that a native handler calls. They follow the rules of the contract: commands and writes are recorded, and
/// take effect after the handler has returned `Ok`.
pub trait Host: Any {
    /// Records a command, or returns why it is refused.
    fn command(&mut self, command: Command) -> Result<(), Error>;

    /// Checks that a bucket exists and is granted.
    fn open(&mut self, bucket: &str) -> Result<(), StoreError>;

    /// The values of these keys, in the given order, including this event's own writes.
    fn get(&mut self, bucket: &str, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, StoreError>;

    /// One page of the keys with this prefix. The cursor is none for the first page.
    fn keys(&mut self, bucket: &str, prefix: &str, cursor: Option<u64>) -> Result<KeyPage, StoreError>;

    /// Records writes. A key without a value is deleted.
    fn write(&mut self, bucket: &str, pairs: Vec<(String, Option<Vec<u8>>)>) -> Result<(), StoreError>;

    /// Adds to the integer under a key.
    fn add(&mut self, bucket: &str, key: &str, delta: i64) -> Result<(), KvError>;

    /// Sets a value that expires `ttl_ms` milliseconds after the commit.
    fn set_with_ttl(&mut self, bucket: &str, key: &str, value: &[u8], ttl_ms: u64) -> Result<(), KvError>;

    /// Number of clients in a channel of the event's namespace, if its presence is kept. By default no presence is.
    fn presence_count(&mut self, channel: &str) -> Result<u64, PresenceError> {
        Err(no_presence(channel))
    }

    /// A page of these clients. The cursor is none for the first page.
    fn presence(&mut self, channel: &str, cursor: Option<u64>) -> Result<PresencePage, PresenceError> {
        let _ = cursor;
        Err(no_presence(channel))
    }

    /// The app's configuration.
    fn config(&mut self) -> Vec<(String, String)>;

    /// Writes a line to the log.
    fn log(&mut self, level: Level, context: &str, message: &str);
}

fn no_presence(channel: &str) -> PresenceError {
    PresenceError::Denied(format!("this host keeps no presence, also not of channel {channel:?}"))
}

thread_local! {
    /// The host of the current call on this thread.
    static HOST: RefCell<Option<Box<dyn Host>>> = const { RefCell::new(None) };
}

/// Runs handler code with `host` as the host of this thread, and returns its result and the host. A panic of the handler is
/// caught; [`words_of`] extracts its message.
pub fn within<H: Host, T>(host: H, part: impl FnOnce() -> T) -> (thread::Result<T>, H) {
    let outer = HOST.replace(Some(Box::new(host)));
    let answer = catch_unwind(AssertUnwindSafe(part));
    let host: Box<dyn Any> = HOST.replace(outer).expect("set above, and removed nowhere else");
    let host = host.downcast().expect("the host that was set above");
    (answer, *host)
}

/// The message of a panic.
pub fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Calls the host of the current call.
pub(crate) fn call_host<T>(with: impl FnOnce(&mut dyn Host) -> T) -> T {
    HOST.with_borrow_mut(|host| {
        let host = host.as_mut().expect(
            "no handler call runs on this thread: drive the handler with a `test::Kit`, and do not call the SDK from \
             threads that a handler starts",
        );
        with(host.as_mut())
    })
}
