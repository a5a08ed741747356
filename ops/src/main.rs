//! The binary `no`.

use std::process::ExitCode;

/// Faster than the system's allocator for threads that each keep to their own memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    no_ops::trace::exit_on_panic();
    let mut console = no_ops::cli::Console::of_process();
    ExitCode::from(no_ops::cli::run(std::env::args_os(), &mut console))
}
