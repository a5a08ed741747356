//! Agents: their definitions, and one iteration of the agent loop as pure code.

pub mod definition;
pub mod state;
