//! Lines for the host's log, over `wasi:logging`: `log::info!("{name} came")`.
//!
//! They are written at once, also when the event fails afterwards. A handler may print to standard output and error
//! just as well; this adds the level, and the module that the line comes from.

use std::fmt;

pub use crate::bindings::wasi::logging::logging::Level;
use crate::host::logging;
#[doc(inline)]
pub use crate::{
    __log_debug as debug, __log_error as error, __log_info as info, __log_trace as trace, __log_warn as warn,
};

/// Writes one line. `context` says which part of the handler it comes from.
pub fn write(level: Level, context: &str, message: fmt::Arguments<'_>) {
    match message.as_str() {
        Some(message) => logging::log(level, context, message),
        None => logging::log(level, context, &message.to_string()),
    }
}

/// Writes a line that only someone hunting a fault wants. Formats like `println!`.
#[macro_export]
#[doc(hidden)]
macro_rules! __log_trace {
    ($($message:tt)*) => {
        $crate::log::write($crate::log::Level::Trace, ::core::module_path!(), ::core::format_args!($($message)*))
    };
}

/// Writes a line about one message. Formats like `println!`.
#[macro_export]
#[doc(hidden)]
macro_rules! __log_debug {
    ($($message:tt)*) => {
        $crate::log::write($crate::log::Level::Debug, ::core::module_path!(), ::core::format_args!($($message)*))
    };
}

/// Writes a line about the life of the app. Formats like `println!`.
#[macro_export]
#[doc(hidden)]
macro_rules! __log_info {
    ($($message:tt)*) => {
        $crate::log::write($crate::log::Level::Info, ::core::module_path!(), ::core::format_args!($($message)*))
    };
}

/// Writes a line that someone should look at. Formats like `println!`.
#[macro_export]
#[doc(hidden)]
macro_rules! __log_warn {
    ($($message:tt)*) => {
        $crate::log::write($crate::log::Level::Warn, ::core::module_path!(), ::core::format_args!($($message)*))
    };
}

/// Writes a line about something that failed. Formats like `println!`.
#[macro_export]
#[doc(hidden)]
macro_rules! __log_error {
    ($($message:tt)*) => {
        $crate::log::write($crate::log::Level::Error, ::core::module_path!(), ::core::format_args!($($message)*))
    };
}
