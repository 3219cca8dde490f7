//! The `plugnode` command. Its verbs are in `plugnode::cli`.

use std::process::ExitCode;

/// Returns the memory of disconnected clients to the system from a background thread; glibc keeps most of it.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    plugnode::cli::main()
}
