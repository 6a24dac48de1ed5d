//! The entry point of the program; the code is in the library of the same crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    chunk_sync::cli::main()
}
