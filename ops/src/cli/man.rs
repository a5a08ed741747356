//! `no man`: manual pages, made of what the parser knows.

use super::{Cli, Console};
use crate::error::{Error, Result};
use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man as Page;
use std::path::{Path, PathBuf};

/// Options of `no man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  no man | man -l -
  no man backup create | man -l -
  no man --output /usr/local/share/man/man1")]
pub(crate) struct Man {
    /// A command, such as `backup create` [default: no itself]
    command: Vec<String>,
    /// Write a page for every command into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    output: Option<PathBuf>,
}

impl Man {
    /// Prints one page, or writes all.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        let mut root = Cli::command();
        root.build();
        if let Some(folder) = &self.output {
            let written = write_all(&root, folder)?;
            return console.print(&format!("{written} pages in {}", folder.display()));
        }
        let mut command = &root;
        for word in &self.command {
            let unknown = || Error::Usage(format!("`{}` has no {word:?}", name(command)));
            command = command.find_subcommand(word).ok_or_else(unknown)?;
        }
        console.print(text(command).trim_end())
    }
}

/// Writes pages of a command and of all below it; how many.
fn write_all(command: &Command, folder: &Path) -> Result<u32> {
    let path = folder.join(format!("{}.1", name(command)));
    let written = std::fs::write(&path, text(command));
    written.map_err(|source| Error::File { path, source })?;
    let mut pages = 1;
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        pages += write_all(below, folder)?;
    }
    Ok(pages)
}

/// As in `no-backup-create`.
fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or(command.get_name())
}

fn text(command: &Command) -> String {
    let mut page = Vec::new();
    // Memory takes all of it.
    let _ = Page::new(command.clone()).render(&mut page);
    String::from_utf8_lossy(&page).into_owned()
}
