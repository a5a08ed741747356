//! Who is it, and may they: identities, roles and nO's own tokens.
//!
//! Verdicts are pure: the keys and the time are handed in, so that a test needs neither a clock nor
//! an issuer. `local` alone touches files (the key and the first token). Map: `principal` is who
//! asks, `role` what they may, `jwt` the proof in its wire form, `verifier` turns a proof into a
//! principal and remembers it, `local` makes and keeps the key that signs.

pub mod error;
pub mod jwt;
pub mod local;
pub mod principal;
pub mod role;
pub mod verifier;

pub use error::{Denied, Error, Result};
pub use local::{Grant, LocalKey};
pub use principal::Principal;
pub use role::{Permission, Role};
pub use verifier::{KeySet, Verifier};
