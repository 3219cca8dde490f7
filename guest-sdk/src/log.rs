//! Lines for the host's log, over `wasi:logging`: `log::info!("{name} came")`.
//!
//! Lines are written at once, even if the event fails afterwards. Standard output and error also go to the host's log; these
//! macros add a level and the module path.

use std::fmt;

pub use crate::bindings::wasi::logging::logging::Level;
use crate::host::logging;
#[doc(inline)]
pub use crate::{
    __log_debug as debug, __log_error as error, __log_info as info, __log_trace as trace, __log_warn as warn,
};

/// Writes one line. `context` names the part of the handler that wrote it.
pub fn write(level: Level, context: &str, message: fmt::Arguments<'_>) {
    match message.as_str() {
        Some(message) => logging::log(level, context, message),
        None => logging::log(level, context, &message.to_string()),
    }
}

/// Writes a line for debugging in detail. Formats like `println!`.
#[macro_export]
#[doc(hidden)]
macro_rules! __log_trace {
    ($($message:tt)*) => {
        $crate::log::write($crate::log::Level::Trace, ::core::module_path!(), ::core::format_args!($($message)*))
    };
}

/// Writes a line about a single event. Formats like `println!`.
#[macro_export]
#[doc(hidden)]
macro_rules! __log_debug {
    ($($message:tt)*) => {
        $crate::log::write($crate::log::Level::Debug, ::core::module_path!(), ::core::format_args!($($message)*))
    };
}

/// Writes a line about the state of the app. Formats like `println!`.
#[macro_export]
#[doc(hidden)]
macro_rules! __log_info {
    ($($message:tt)*) => {
        $crate::log::write($crate::log::Level::Info, ::core::module_path!(), ::core::format_args!($($message)*))
    };
}

/// Writes a line about a possible problem. Formats like `println!`.
#[macro_export]
#[doc(hidden)]
macro_rules! __log_warn {
    ($($message:tt)*) => {
        $crate::log::write($crate::log::Level::Warn, ::core::module_path!(), ::core::format_args!($($message)*))
    };
}

/// Writes a line about a failure. Formats like `println!`.
#[macro_export]
#[doc(hidden)]
macro_rules! __log_error {
    ($($message:tt)*) => {
        $crate::log::write($crate::log::Level::Error, ::core::module_path!(), ::core::format_args!($($message)*))
    };
}
