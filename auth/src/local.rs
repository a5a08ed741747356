//! nO's own key and the tokens that it signs, for those who run it without an identity provider.
//!
//! `<data>/token.key` is an Ed25519 key (PKCS#8 PEM), `<data>/admin.token` an admin's token: both
//! are made at the first start, readable by their owner alone, and written under another name
//! first, so that a crash leaves either nothing or the whole file. A secret that others may read is
//! refused rather than repaired: who has read it by then is unknown.

use crate::error::{Error, Result};
use crate::jwt::{self, Claims};
use crate::ledger::{Issued, Ledger};
use crate::principal::TENANT_DEFAULT;
use crate::role::Role;
use crate::secret::open_mode;
use crate::verifier::{KeySet, Verifier};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, EncodingKey};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The key's file in the data folder.
pub const KEY_FILE: &str = "token.key";
/// The first token's file in the data folder.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";
/// Life of the admin's token, in s: a year; renewed at a start within its last 30 days.
pub const ADMIN_TOKEN_S: u64 = 365 * 24 * 3_600;
/// Longest life of a token, in s: ten years.
pub const TTL_S_MAX: u64 = 10 * 366 * 24 * 3_600;

const RENEW_S: u64 = 30 * 24 * 3_600;
/// PKCS#8 version 1 of an Ed25519 key, before its 32 bytes of seed (RFC 8410, section 7).
const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
const PEM_HEAD: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_TAIL: &str = "-----END PRIVATE KEY-----";

/// What a new token shall say.
#[derive(Clone, Debug)]
pub struct Grant {
    subject: String,
    tenant: String,
    role: String,
    ttl_s: u64,
}

impl Grant {
    /// One role for an hour, subject the role's name, the default tenant.
    #[must_use]
    pub fn new(role: Role) -> Grant {
        Grant::of_role(role.name())
    }

    /// The same for a role of the configuration. Whether it exists is up to the caller: a verifier
    /// that does not know it refuses the token.
    #[must_use]
    pub fn of_role(name: &str) -> Grant {
        let (subject, tenant) = (name.to_owned(), TENANT_DEFAULT.to_owned());
        Grant { subject, tenant, role: name.to_owned(), ttl_s: 3_600 }
    }

    /// Whose token it is.
    #[must_use]
    pub fn subject(mut self, subject: &str) -> Grant {
        subject.clone_into(&mut self.subject);
        self
    }

    /// Whose tasks it opens.
    #[must_use]
    pub fn tenant(mut self, tenant: &str) -> Grant {
        tenant.clone_into(&mut self.tenant);
        self
    }

    /// How long it lives, in s.
    #[must_use]
    pub fn ttl_s(mut self, ttl_s: u64) -> Grant {
        self.ttl_s = ttl_s;
        self
    }
}

/// The key that signs local tokens.
pub struct LocalKey {
    signing: EncodingKey,
    public: [u8; 32],
    kid: String,
}

impl std::fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl LocalKey {
    /// The key of that seed.
    ///
    /// # Errors
    /// [`Error::Sign`] when the library refuses it.
    pub fn from_seed(seed: &[u8; 32]) -> Result<LocalKey> {
        let der = Zeroizing::new([&PKCS8_HEAD[..], &seed[..]].concat());
        let signing = EncodingKey::from_ed_der(&der);
        let jwk = Jwk::from_encoding_key(&signing, Algorithm::EdDSA).map_err(|_| Error::Sign)?;
        let AlgorithmParameters::OctetKeyPair(pair) = jwk.algorithm else {
            return Err(Error::Sign);
        };
        let public = URL_SAFE_NO_PAD.decode(pair.x).map_err(|_| Error::Sign)?;
        let public: [u8; 32] = public.try_into().map_err(|_| Error::Sign)?;
        let kid = blake3::hash(&public).to_hex()[..16].to_owned();
        Ok(LocalKey { signing, public, kid })
    }

    /// Reads the data folder's key.
    ///
    /// # Errors
    /// [`Error::KeyMissing`] before the first start; [`Error::FileOpen`], [`Error::KeyMalformed`]
    /// or [`Error::File`] for a key that the operator must look at.
    pub fn open(data_dir: &Path) -> Result<LocalKey> {
        let path = data_dir.join(KEY_FILE);
        let Some(pem) = read_secret(&path)? else { return Err(Error::KeyMissing { path }) };
        let seed = Zeroizing::new(seed_of_pem(&pem).ok_or(Error::KeyMalformed { path })?);
        LocalKey::from_seed(&seed)
    }

    /// Reads the data folder's key, or makes it. The folder must be there.
    ///
    /// # Errors
    /// As [`LocalKey::open`], but for a missing key.
    pub fn open_or_create(data_dir: &Path) -> Result<LocalKey> {
        match LocalKey::open(data_dir) {
            Err(Error::KeyMissing { path }) => {
                let seed = Zeroizing::new(random_bytes()?);
                write_secret(&path, &pem_of_seed(&seed))?;
                LocalKey::from_seed(&seed)
            }
            other => other,
        }
    }

    /// Makes a token that no ledger knows; for tests and for those who keep their own.
    ///
    /// # Errors
    /// As [`LocalKey::issue`].
    pub fn create(&self, grant: &Grant, now_s: u64) -> Result<String> {
        self.issue(grant, now_s).map(|(token, _)| token)
    }

    /// Makes a token, and what a ledger is to know of it.
    ///
    /// # Errors
    /// [`Error::Grant`] for an empty or overlong name or a life that is no life.
    pub fn issue(&self, grant: &Grant, now_s: u64) -> Result<(String, Issued)> {
        let named = |name: &str| !name.is_empty() && name.len() <= 128;
        if !named(&grant.subject) {
            return Err(Error::Grant("the subject must have 1 to 128 bytes"));
        }
        if !named(&grant.tenant) {
            return Err(Error::Grant("the tenant must have 1 to 128 bytes"));
        }
        if grant.ttl_s == 0 || TTL_S_MAX < grant.ttl_s {
            return Err(Error::Grant("a token lives for at least 1 s and at most ten years"));
        }
        let issued = Issued {
            id: random_id()?,
            subject: grant.subject.clone(),
            tenant: grant.tenant.clone(),
            role: grant.role.clone(),
            issued_at: now_s,
            expires_at: now_s.saturating_add(grant.ttl_s),
            kid: Some(self.kid.clone()),
        };
        let claims = Claims {
            iss: jwt::LOCAL.to_owned(),
            aud: jwt::LOCAL.to_owned(),
            sub: grant.subject.clone(),
            roles: vec![grant.role.clone()],
            tenant: grant.tenant.clone(),
            iat: now_s,
            nbf: now_s,
            exp: issued.expires_at,
            jti: Some(issued.id.clone()),
        };
        Ok((jwt::sign(&claims, &self.kid, &self.signing)?, issued))
    }

    /// The key's name in tokens.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Name and public key.
    #[must_use]
    pub fn public(&self) -> (String, [u8; 32]) {
        (self.kid.clone(), self.public)
    }

    /// What verifiers need.
    #[must_use]
    pub fn key_set(&self) -> KeySet {
        KeySet::local(&[self.public()])
    }

    /// Sees to it that the data folder holds a valid admin's token, and gives its path.
    ///
    /// One that is missing, of another key, revoked, or in its last 30 days is replaced. It stands
    /// in the ledger, also one from before there was a ledger.
    ///
    /// # Errors
    /// [`Error::FileOpen`] when others may read it, [`Error::File`] when it cannot be written.
    pub fn ensure_admin_token(&self, data_dir: &Path, now_s: u64) -> Result<PathBuf> {
        let path = data_dir.join(ADMIN_TOKEN_FILE);
        let ledger = Ledger::of(data_dir);
        let entries = ledger.read()?;
        if let Some(token) = read_secret(&path)?
            && let Some(issued) = self.issued_of(token.trim(), now_s + RENEW_S)
            && !entries.revoked.contains(issued.id.as_str())
        {
            if !entries.tokens.contains_key(&issued.id) {
                ledger.issued(&issued)?;
            }
            return Ok(path);
        }
        let grant = Grant::new(Role::Admin).ttl_s(ADMIN_TOKEN_S);
        let (token, issued) = self.issue(&grant, now_s)?;
        ledger.issued(&issued)?;
        write_secret(&path, &token)?;
        Ok(path)
    }

    /// What a ledger is to know of a token of this key that is good at `at_s`.
    fn issued_of(&self, token: &str, at_s: u64) -> Option<Issued> {
        let keys = self.key_set();
        Verifier::new(keys.clone()).verify(token, at_s).ok()?;
        let claims = jwt::check(token, at_s, |kid| keys.of_kid(kid)).ok()?;
        Some(Issued {
            id: jwt::id_of(token, &claims),
            subject: claims.sub,
            tenant: claims.tenant,
            role: claims.roles.join(" "),
            issued_at: claims.iat,
            expires_at: claims.exp,
            kid: Some(self.kid.clone()),
        })
    }

    #[cfg(test)]
    pub(crate) fn sign_raw(&self, message: &[u8]) -> String {
        jsonwebtoken::crypto::sign(message, &self.signing, Algorithm::EdDSA).expect("signs")
    }
}

/// Reads a secret file; `None` when there is none.
///
/// # Errors
/// [`Error::FileOpen`] when others than its owner may read or write it.
pub fn read_secret(path: &Path) -> Result<Option<Zeroizing<String>>> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    if let Some(mode) = open_mode(&file).map_err(failed)? {
        return Err(Error::FileOpen { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}

/// Writes a secret file, 0600, all or nothing, and syncs it.
fn write_secret(path: &Path, text: &str) -> Result<()> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let partial = path.with_extension("partial");
    let _ = fs::remove_file(&partial);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(&partial).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&partial, path).map_err(failed)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// 20 hex digits that no other token has.
fn random_id() -> Result<String> {
    let bytes: [u8; 10] = random_bytes()?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// So many bytes of the kernel's randomness.
fn random_bytes<const LEN: usize>() -> Result<[u8; LEN]> {
    let path = Path::new("/dev/urandom");
    let failed = |source| Error::File { path: path.to_owned(), source };
    let mut bytes = [0; LEN];
    File::open(path).and_then(|mut file| file.read_exact(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}

fn pem_of_seed(seed: &[u8; 32]) -> Zeroizing<String> {
    let der = Zeroizing::new([&PKCS8_HEAD[..], &seed[..]].concat());
    let body = Zeroizing::new(STANDARD.encode(&der));
    Zeroizing::new(format!("{PEM_HEAD}\n{}\n{PEM_TAIL}\n", *body))
}

fn seed_of_pem(pem: &str) -> Option<[u8; 32]> {
    let body = pem.trim().strip_prefix(PEM_HEAD)?.strip_suffix(PEM_TAIL)?;
    let body: Zeroizing<String> = Zeroizing::new(body.split_whitespace().collect());
    let der = Zeroizing::new(STANDARD.decode(&*body).ok()?);
    der.strip_prefix(&PKCS8_HEAD)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const NOW_S: u64 = 1_800_000_000;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn the_first_start_makes_key_and_token_and_the_next_keeps_them() {
        let data = tempfile::tempdir().expect("folder");
        assert!(matches!(LocalKey::open(data.path()), Err(Error::KeyMissing { .. })));
        let key = LocalKey::open_or_create(data.path()).expect("made");
        let path = key.ensure_admin_token(data.path(), NOW_S).expect("written");
        let token = fs::read_to_string(&path).expect("there");
        let principal = Verifier::new(key.key_set()).verify(&token, NOW_S).expect("accepted");
        assert_eq!(principal.permissions, Role::Admin.permissions());
        assert_eq!((mode(&path), mode(&data.path().join(KEY_FILE))), (0o600, 0o600));

        let again = LocalKey::open_or_create(data.path()).expect("read");
        assert_eq!(again.public(), key.public());
        again.ensure_admin_token(data.path(), NOW_S + 60).expect("kept");
        assert_eq!(fs::read_to_string(&path).expect("there"), token);
        again.ensure_admin_token(data.path(), NOW_S + ADMIN_TOKEN_S).expect("renewed");
        assert_ne!(fs::read_to_string(&path).expect("there"), token);
    }

    #[test]
    fn open_files_and_junk_are_refused_with_what_to_do() {
        let data = tempfile::tempdir().expect("folder");
        LocalKey::open_or_create(data.path()).expect("made");
        let path = data.path().join(KEY_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode");
        let error = LocalKey::open_or_create(data.path()).expect_err("open to others");
        assert!(error.to_string().contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
        for junk in ["", "junk", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"] {
            fs::write(&path, junk).expect("write");
            let error = LocalKey::open_or_create(data.path()).expect_err("junk");
            assert!(matches!(error, Error::KeyMalformed { .. }), "{error}");
        }
    }

    #[test]
    fn two_keys_are_never_the_same() {
        let (a, b) = (tempfile::tempdir().expect("a"), tempfile::tempdir().expect("b"));
        let a = LocalKey::open_or_create(a.path()).expect("made");
        let b = LocalKey::open_or_create(b.path()).expect("made");
        assert_ne!(a.public(), b.public());
    }

    #[test]
    fn grants_without_sense_are_refused() {
        let key = LocalKey::from_seed(&[1; 32]).expect("key");
        let grant = || Grant::new(Role::Viewer);
        assert!(key.create(&grant().subject(""), NOW_S).is_err());
        assert!(key.create(&grant().tenant(&"x".repeat(129)), NOW_S).is_err());
        assert!(key.create(&grant().ttl_s(0), NOW_S).is_err());
        assert!(key.create(&grant().ttl_s(TTL_S_MAX + 1), NOW_S).is_err());
    }

    #[test]
    fn the_admin_token_stands_in_the_ledger_and_a_revoked_one_is_replaced() {
        let data = tempfile::tempdir().expect("folder");
        let key = LocalKey::open_or_create(data.path()).expect("made");
        let ledger = Ledger::of(data.path());
        let ensure = || {
            let path = key.ensure_admin_token(data.path(), NOW_S).expect("there");
            let ids = ledger.read().expect("read").tokens.into_keys().collect::<Vec<_>>();
            (fs::read_to_string(path).expect("there"), ids)
        };
        let (token, ids) = ensure();
        assert_eq!(ids.len(), 1);
        assert_eq!(ensure(), (token.clone(), ids.clone()));
        // One from before there was a ledger is listed by what stands for its id.
        fs::remove_file(ledger.path()).expect("removed");
        assert_eq!(ensure(), (token.clone(), ids.clone()));
        ledger.revoke(&ids[0], NOW_S).expect("revoked");
        let (other, ids) = ensure();
        assert_ne!(other, token);
        assert_eq!(ids.len(), 2);
    }

    #[test]
    fn nothing_shows_the_key() {
        let key = LocalKey::from_seed(&[1; 32]).expect("key");
        assert_eq!(format!("{key:?}"), format!("LocalKey {{ kid: {:?}, .. }}", key.kid()));
    }
}
