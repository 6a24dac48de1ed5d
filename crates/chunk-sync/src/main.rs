//! The entry point of the program; the code is in the library of the same crate.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Chunks are taken apart into many short texts, by each of several threads. The allocator of glibc takes a third of the
/// time of a comparison of all stores, this one a tenth.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    chunk_sync::cli::main()
}
