//! `no token`: access tokens, signed by the key in the data folder and noted in its ledger.

mod issued;

use super::Console;
use super::options::data_dir;
use crate::audit;
use crate::config::{self, raw::duration_ms};
use crate::error::{Error, Result};
use clap::{Args, Subcommand};
use no_auth::{Grant, Ledger, LocalKey};
use serde_json::json;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Commands of `no token`.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token
    Create(Create),
    /// Show the tokens that were made, never the tokens themselves
    List(issued::List),
    /// End a token before its time
    Revoke(issued::Revoke),
}

/// Options of `no token create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  no token create --role operator --ttl 8h
  no token create --role worker --tenant acme --subject render-farm --ttl 30d
  curl -H \"Authorization: Bearer $(no token create --role viewer)\" http://127.0.0.1:3000/v1/tasks

Roles: viewer (see), submitter (see, submit), worker (lease), operator (see, submit, steer, write
agents), admin (everything), and those of the configuration's `roles`.")]
pub(crate) struct Create {
    /// What it may do: viewer, submitter, worker, operator, admin or a role of the configuration
    #[arg(long)]
    role: String,
    /// Whose tasks it opens
    #[arg(long, default_value = no_auth::principal::TENANT_DEFAULT)]
    tenant: String,
    /// Whose token it is, for logs [default: the role's name]
    #[arg(long)]
    subject: Option<String>,
    /// How long it lives: a number with s, m, h or d
    #[arg(long, default_value = "1h", value_parser = ttl_s)]
    ttl: u64,
    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
    /// Configuration file with roles [env: NO_CONFIG] [default: config/operational.json if there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data folder with the key [env: NO_DATA_DIR] [default: data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

fn ttl_s(text: &str) -> std::result::Result<u64, String> {
    let seconds = duration_ms(text).map(|ms| ms / 1_000).filter(|seconds| 0 < *seconds);
    seconds.ok_or_else(|| "must be a number with s, m, h or d, such as 8h".to_owned())
}

impl Token {
    /// Runs it.
    pub(crate) fn run(self, console: &mut Console) -> Result<()> {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        match self {
            Token::Create(create) => create.run(console, now_s),
            Token::List(list) => list.run(console, now_s),
            Token::Revoke(revoke) => revoke.run(console, now_s),
        }
    }
}

impl Create {
    /// Refuses a role that no nO with this configuration knows.
    fn check_role(&self) -> Result<()> {
        let options = config::Options { file: self.config.clone(), ..Default::default() };
        let mut raw = config::read(&options)?;
        let roles = config::oauth::roles(&mut raw);
        let is_about_roles = |fault: &config::Fault| fault.path.starts_with("roles.");
        let faults: Vec<_> = raw.faults.into_iter().filter(is_about_roles).collect();
        if !faults.is_empty() {
            return Err(Error::Config(faults));
        }
        if roles.of_name(&self.role).is_none() {
            let names = roles.names().collect::<Vec<_>>().join(", ");
            return Err(Error::Usage(format!("--role must be one of {names}")));
        }
        Ok(())
    }

    fn run(self, console: &mut Console, now_s: u64) -> Result<()> {
        self.check_role()?;
        let data_dir = data_dir(self.data_dir.as_deref());
        let key = LocalKey::open(&data_dir)?;
        let subject = self.subject.as_deref().unwrap_or(&self.role);
        let grant =
            Grant::of_role(&self.role).tenant(&self.tenant).subject(subject).ttl_s(self.ttl);
        let (token, issued) = key.issue(&grant, now_s).map_err(|error| match error {
            no_auth::Error::Grant(problem) => Error::Usage(problem.to_owned()),
            other => other.into(),
        })?;
        let reason = format!("{} for {subject}, tenant {}", issued.role, issued.tenant);
        audit::keep_command(&data_dir, "token.create", &issued.id, reason)?;
        Ledger::of(&data_dir).issued(&issued)?;
        if !self.json {
            return console.print(&token);
        }
        let expires_at = issued::time_of(issued.expires_at);
        console.print_json(&json!({
            "token": token,
            "id": issued.id,
            "role": self.role,
            "tenant": self.tenant,
            "subject": subject,
            "expires_at": expires_at,
        }))
    }
}
