//! Tokens of an issuer.
