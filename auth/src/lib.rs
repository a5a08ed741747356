//! Who is it, and may they: identities, roles and nO's own tokens.
//!
//! Verdicts are pure: the keys and the time are handed in, so that a test needs neither a clock nor
//! an issuer. `local` and `ledger` alone touch files (the key, the first token, what was issued).
//! Map: `principal` is who asks, `role` what they may, `jwt` the proof in its wire form, `verifier`
//! turns a proof into a principal and remembers it, `local` makes and keeps the key that signs,
//! `ledger` knows what was issued and revoked, `limit` how often one may ask, `audit` how a
//! decision is kept.

pub mod audit;
pub mod error;
pub mod jwt;
pub mod ledger;
pub mod limit;
pub mod local;
pub mod principal;
pub mod role;
pub mod verifier;

pub use error::{Denied, Error, Result};
pub use ledger::{Ledger, LedgerWatch, Revoked};
pub use local::{Grant, LocalKey};
pub use principal::Principal;
pub use role::{Permission, Role};
pub use verifier::{KeySet, Verifier};
