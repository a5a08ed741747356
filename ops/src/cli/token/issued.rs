//! `no token list` and `no token revoke`: what the ledger of the data folder knows.

use crate::audit;
use crate::cli::Console;
use crate::cli::options::data_dir;
use crate::cli::output::plain;
use crate::error::{Error, Result};
use clap::Args;
use no_auth::ledger::Known;
use no_auth::{Ledger, LocalKey};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Options of `no token list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
    /// Data folder with the tokens [env: NO_DATA_DIR] [default: data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Options of `no token revoke`.
#[derive(Debug, Args)]
#[command(after_help = "\
A running nO refuses the token within a second; no restart is needed. The admin's token can be
revoked as well: the next start writes another.

Example:
  no token revoke 3f9a0c5d7e21b4c68d10")]
pub(crate) struct Revoke {
    /// The token's id, as `no token list` shows it
    id: String,
    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
    /// Data folder with the tokens [env: NO_DATA_DIR] [default: data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// A time in s since 1970 as RFC 3339.
pub(super) fn time_of(at_s: u64) -> Option<String> {
    let at_s = i64::try_from(at_s).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(at_s).map(|at| at.to_string()).ok()
}

/// What a token is worth at a moment, under the key that is there.
struct Asked {
    now_s: u64,
    /// The key's name; absent where there is none.
    kid: Option<String>,
}

impl Asked {
    fn of(data_dir: &Path, now_s: u64) -> Asked {
        let kid = LocalKey::open(data_dir).ok().map(|key| key.kid().to_owned());
        Asked { now_s, kid }
    }

    fn state(&self, known: &Known) -> &'static str {
        let issued = &known.issued;
        match known.revoked_at {
            Some(_) => "revoked",
            None if issued.expires_at <= self.now_s => "expired",
            // It may come back, as from a backup that has it: then the token is good again.
            None if issued.kid.is_some() && issued.kid != self.kid => "key_gone",
            None => "valid",
        }
    }
}

fn shown(known: &Known, asked: &Asked) -> Value {
    let issued = &known.issued;
    json!({
        "id": issued.id,
        "role": issued.role,
        "tenant": issued.tenant,
        "subject": issued.subject,
        "issued_at": time_of(issued.issued_at),
        "expires_at": time_of(issued.expires_at),
        "revoked_at": known.revoked_at.and_then(time_of),
        "state": asked.state(known),
    })
}

impl List {
    pub(super) fn run(self, console: &mut Console, now_s: u64) -> Result<()> {
        let data_dir = data_dir(self.data_dir.as_deref());
        let (entries, asked) = (Ledger::of(&data_dir).read()?, Asked::of(&data_dir, now_s));
        let mut all: Vec<&Known> = entries.tokens.values().collect();
        all.sort_by_key(|known| (known.issued.issued_at, &known.issued.id));
        if self.json {
            let items: Vec<_> = all.iter().map(|known| shown(known, &asked)).collect();
            return console.print_json(&json!({ "items": items }));
        }
        let head = ["ID", "STATE", "ROLE", "TENANT", "SUBJECT", "EXPIRES"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for known in all {
            let issued = &known.issued;
            rows.push(vec![
                issued.id.clone(),
                asked.state(known).to_owned(),
                plain(&issued.role),
                plain(&issued.tenant),
                plain(&issued.subject),
                time_of(issued.expires_at).unwrap_or_default(),
            ]);
        }
        console.print_table(&rows)
    }
}

impl Revoke {
    pub(super) fn run(self, console: &mut Console, now_s: u64) -> Result<()> {
        let data_dir = data_dir(self.data_dir.as_deref());
        let ledger = Ledger::of(&data_dir);
        let entries = ledger.read()?;
        let Some(known) = entries.tokens.get(&self.id) else {
            return Err(Error::TokenUnknown {
                id: plain(&self.id),
                path: ledger.path().to_owned(),
            });
        };
        let asked = Asked::of(&data_dir, now_s);
        let before = asked.state(known);
        let is_open = matches!(before, "valid" | "key_gone");
        if is_open {
            let issued = &known.issued;
            let reason = format!("{} of {}, tenant {}", issued.role, issued.subject, issued.tenant);
            audit::keep_command(&data_dir, "token.revoke", &self.id, reason)?;
            ledger.revoke(&self.id, now_s)?;
        }
        if self.json {
            let revoked = Known { revoked_at: known.revoked_at.or(Some(now_s)), ..known.clone() };
            let after = if is_open { &revoked } else { known };
            return console.print_json(&shown(after, &asked));
        }
        console.print(&match before {
            "valid" | "key_gone" => format!("{} is revoked", self.id),
            "expired" => format!("{} has expired already: there is nothing to revoke", self.id),
            _ => format!("{} is revoked already", self.id),
        })
    }
}
