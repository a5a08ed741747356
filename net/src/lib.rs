//! HTTP in and HTTP out.

pub mod out;
pub mod reads;
