//! What a caller must act on: a proof that was refused ([`Denied`]), or a key that cannot be used
//! ([`Error`]).

use std::path::PathBuf;

/// Why a bearer token proves nothing. All of them are one 401 to the sender; the reason is for the
/// log and for the label of `no_auth_failures_total`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum Denied {
    /// There was no bearer token.
    #[error("no bearer token")]
    Missing,
    /// Longer than [`crate::jwt::TOKEN_BYTES_MAX`]; it was not looked at.
    #[error("token too long")]
    TooLong,
    /// Not a JWT, or with members that a token of ours does not have.
    #[error("not a token of this service")]
    Malformed,
    /// Signed (or not) with an algorithm that is not accepted.
    #[error("algorithm not accepted")]
    Algorithm,
    /// Names a key that we do not have.
    #[error("unknown key")]
    KeyUnknown,
    /// The signature does not fit.
    #[error("bad signature")]
    Signature,
    /// From another issuer.
    #[error("wrong issuer")]
    Issuer,
    /// For another audience.
    #[error("wrong audience")]
    Audience,
    /// Its time is over.
    #[error("expired")]
    Expired,
    /// Its time has not come.
    #[error("not valid yet")]
    NotYet,
    /// Carries no subject, no tenant, or a role that does not exist.
    #[error("claims not accepted")]
    Claims,
    /// A token of another type than those that are taken, such as an ID token.
    #[error("not an access token")]
    TokenType,
    /// No JWT: only the issuer can say what it is.
    #[error("not a JWT")]
    Opaque,
    /// The issuer says that it is not, or no longer, valid.
    #[error("not active, says the issuer")]
    Inactive,
    /// The issuer's keys or its word are needed, and it does not answer.
    #[error("the issuer is not available")]
    IssuerUnavailable,
    /// It was revoked.
    #[error("revoked")]
    Revoked,
}

/// All reasons, so that a metric can show each from the start.
pub const DENIED: [Denied; 16] = [
    Denied::Missing,
    Denied::TooLong,
    Denied::Malformed,
    Denied::Algorithm,
    Denied::KeyUnknown,
    Denied::Signature,
    Denied::Issuer,
    Denied::Audience,
    Denied::Expired,
    Denied::NotYet,
    Denied::Claims,
    Denied::TokenType,
    Denied::Opaque,
    Denied::Inactive,
    Denied::IssuerUnavailable,
    Denied::Revoked,
];

impl Denied {
    /// The stable label.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Denied::Missing => "missing",
            Denied::TooLong => "too_long",
            Denied::Malformed => "malformed",
            Denied::Algorithm => "algorithm",
            Denied::KeyUnknown => "key_unknown",
            Denied::Signature => "signature",
            Denied::Issuer => "issuer",
            Denied::Audience => "audience",
            Denied::Expired => "expired",
            Denied::NotYet => "not_yet",
            Denied::Claims => "claims",
            Denied::TokenType => "token_type",
            Denied::Opaque => "opaque",
            Denied::Inactive => "inactive",
            Denied::IssuerUnavailable => "issuer_unavailable",
            Denied::Revoked => "revoked",
        }
    }

    /// Whether the issuer may know better: it has newer keys, or knows a token that is no JWT.
    #[must_use]
    pub fn asks_issuer(self) -> bool {
        matches!(self, Denied::KeyUnknown | Denied::Opaque | Denied::IssuerUnavailable)
    }
}

/// Why the local key or its tokens cannot be used. The operator must act.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others than its owner may read or write a secret file.
    #[error(
        "{} has mode {mode:03o}: a secret must not be open to others; run `chmod 600 {}`",
        path.display(),
        path.display()
    )]
    FileOpen {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file with a secret could not be read.
    #[error("the secret in {}: {source}; let the user that runs nO read it", path.display())]
    SecretFile {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file holds no secret that can be used.
    #[error("the secret in {} {why}", path.display())]
    SecretUnfit {
        /// Which file.
        path: PathBuf,
        /// What is wrong, without the secret.
        why: &'static str,
    },
    /// The key file holds no Ed25519 key.
    #[error(
        "{} is not an Ed25519 key in PKCS#8 PEM; restore it, or remove it: \
         a new key is made at the next start and all tokens end",
        path.display()
    )]
    KeyMalformed {
        /// Which file.
        path: PathBuf,
    },
    /// There is no key file yet.
    #[error("{} is missing: start nO once with this data folder, it makes the key", path.display())]
    KeyMissing {
        /// Which file.
        path: PathBuf,
    },
    /// A token was asked for that no verifier would accept.
    #[error("{0}")]
    Grant(&'static str),
    /// The signing library refused; never seen.
    #[error("the token could not be signed")]
    Sign,
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;
