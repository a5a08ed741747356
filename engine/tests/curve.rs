//! The prediction for more cores, tested where the machine is.

#[path = "../../benches/curve/curve.rs"]
pub mod curve;
