//! The program `bench`: the table of DESIGN §12, two builds compared, the rivals of the runtime.

use std::process::ExitCode;

/// What the server allocates with, so that the responder beside it does too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    no_benches::cli::run()
}
