//! Who is it, and may they: identities, roles and nO's own tokens.
//!
//! Verdicts are pure: the keys and the time are handed in, so that a test needs neither a clock nor
//! an issuer. `local`, `ledger` and `secret` alone touch files (the key, the first token, what was
//! issued, what others gave us). Map: `principal` is who asks, `role` and `roles` what they may,
//! `jwt` nO's own token in its wire form, `issued` those of an OIDC issuer and `jwks` its keys,
//! `login`, `session` and `cookie` a browser's way in, `shared` how nodes hand those on, `verifier`
//! turns a proof into a principal and remembers it, `local` makes and keeps the key that signs,
//! `secret` is what others gave us and nobody may see, `ledger` knows what was issued and revoked,
//! `limit` how often one may ask, `audit` how a decision is kept.

pub mod audit;
pub mod cookie;
pub mod error;
pub mod issued;
pub mod json;
pub mod jwks;
pub mod jwt;
pub mod ledger;
pub mod limit;
pub mod local;
pub mod login;
pub mod principal;
pub mod role;
pub mod roles;
pub mod secret;
pub mod session;
pub mod shared;
pub mod verifier;

pub use error::{Denied, Error, Result};
pub use issued::{IdClaims, IssuerRules};
pub use jwks::{IssuerKeys, Keyring};
pub use ledger::{Ledger, LedgerWatch, Revoked};
pub use local::{Grant, LocalKey};
pub use principal::Principal;
pub use role::{Permission, PermissionSet, Role};
pub use roles::Roles;
pub use secret::Secret;
pub use verifier::{KeySet, Verifier};
