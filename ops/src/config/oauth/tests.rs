//! What is accepted of issuer and roles.
