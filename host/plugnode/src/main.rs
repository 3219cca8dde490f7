//! The `plugnode` command. Its verbs are in `plugnode::cli`.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Returns the memory of disconnected clients to the system from a background thread; glibc keeps most of it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    plugnode::cli::main()
}
