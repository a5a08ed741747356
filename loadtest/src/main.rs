//! The binary `loadtest`.

use std::process::ExitCode;

fn main() -> ExitCode {
    no_loadtest::cli::main()
}
