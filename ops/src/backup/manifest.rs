//! What a backup says of itself, and which names its parts may have: a restore writes under no
//! other.

use no_auth::ledger::LEDGER_FILE;
use no_auth::local::KEY_FILE;
use no_storage::sqlite::Contents;
use serde::{Deserialize, Serialize};

/// The manifest's own name among the parts.
pub(super) const MANIFEST: &str = "manifest.json";
/// The format that is written, and the newest that is read.
pub(super) const FORMAT: u32 = 1;

/// The last part of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of the file's format.
    pub format: u32,
    /// The nO that wrote it.
    pub version: String,
    /// When its making began, RFC 3339. All that was acknowledged before is in it.
    pub created_at: String,
    /// Schema of the shards' files.
    pub schema: u32,
    /// Partitions of the store.
    pub partitions: u16,
    /// Shards, each a part.
    pub shards: u16,
    /// All parts but this one, in their order.
    pub parts: Vec<PartNote>,
}

/// What the manifest says of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartNote {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its BLAKE3 hash, in hex.
    pub blake3: String,
    /// What it holds, when it is a shard's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<Contents>,
}

/// What a part is, by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// The file of the shard with that number.
    Shard(u16),
    /// The ledger of tokens.
    Ledger,
    /// The key that signs tokens.
    Key,
    /// A file of the audit log.
    Audit,
    /// The manifest.
    Manifest,
}

impl Part {
    /// What a name means; nothing else than what this build writes means anything.
    pub(super) fn of(name: &str) -> Option<Part> {
        match name {
            LEDGER_FILE => return Some(Part::Ledger),
            KEY_FILE => return Some(Part::Key),
            MANIFEST => return Some(Part::Manifest),
            _ => {}
        }
        if let Some(number) = name.strip_prefix("audit/audit-")
            && let Some(number) = number.strip_suffix(".jsonl")
        {
            let is_ours = number.len() == 20 && number.bytes().all(|byte| byte.is_ascii_digit());
            return is_ours.then_some(Part::Audit);
        }
        let number = name.strip_prefix("shard-")?.strip_suffix(".db")?;
        let shard = number.parse().ok()?;
        (shard_name(shard) == name).then_some(Part::Shard(shard))
    }
}

/// The name of a shard's part, and of its file in a data folder.
pub(super) fn shard_name(shard: u16) -> String {
    format!("shard-{shard:03}.db")
}

impl Manifest {
    /// What all shards hold together.
    #[must_use]
    pub fn contents(&self) -> Contents {
        let mut all = Contents::default();
        self.parts.iter().filter_map(|part| part.contents.as_ref()).for_each(|part| all.add(part));
        all
    }

    /// Whether the key that signs tokens is in it.
    #[must_use]
    pub fn holds_key(&self) -> bool {
        self.parts.iter().any(|part| part.name == KEY_FILE)
    }

    /// Bytes of all parts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// What makes no sense in it.
    pub(super) fn fault(&self) -> Option<String> {
        if self.format != FORMAT {
            let (found, known) = (self.format, FORMAT);
            return Some(format!(
                "it has format {found}, this nO knows {known}: use the nO that wrote it"
            ));
        }
        let shards: Vec<_> = self
            .parts
            .iter()
            .filter_map(|part| match Part::of(&part.name) {
                Some(Part::Shard(shard)) => Some(shard),
                _ => None,
            })
            .collect();
        let is_whole = shards.iter().copied().eq(0..self.shards);
        let is_sound = is_whole && 0 < self.shards && self.shards <= self.partitions;
        (!is_sound).then(|| "its shards are not those of its manifest".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_written_are_read() {
        assert_eq!(Part::of("shard-000.db"), Some(Part::Shard(0)));
        assert_eq!(Part::of("shard-012.db"), Some(Part::Shard(12)));
        assert_eq!(Part::of("audit/audit-00000000000000000001.jsonl"), Some(Part::Audit));
        let others = [
            "",
            "no.json",
            "admin.token",
            "shard-1.db",
            "shard-0000.db",
            "shard-+01.db",
            "../shard-000.db",
            "audit/../shard-000.db",
            "audit/audit-0000000000000000000/.jsonl",
            "audit/lock",
            "/etc/passwd",
        ];
        for name in others {
            assert_eq!(Part::of(name), None, "{name}");
        }
    }
}
