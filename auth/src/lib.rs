//! Who is it, and may they. Provided elsewhere; what stands here is only what `net` compiles against.

pub mod error;
pub mod principal;
pub mod role;

pub use error::{Denied, Error, Result};
pub use principal::Principal;
pub use role::{Permission, Role};
