//! The provider against an issuer of a few lines.
