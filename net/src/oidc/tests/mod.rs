//! The provider against an issuer of a few lines on a real socket, and what forged tokens come to.

mod attacks;
#[path = "../../../../auth/tests/issuer/mod.rs"]
mod issuer;
mod provider;
