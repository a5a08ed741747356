//! `no completions`: what a shell needs to complete our commands.

use super::{Cli, Console};
use crate::error::Result;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

/// Options of `no completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  no completions bash > /etc/bash_completion.d/no
  no completions zsh > ~/.zfunc/_no
  no completions fish > ~/.config/fish/completions/no.fish")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Prints the script.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "no", &mut script);
        console.print(String::from_utf8_lossy(&script).trim_end())
    }
}
