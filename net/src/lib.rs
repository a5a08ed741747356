//! nO's HTTP in and HTTP out.
//!
//! A net core is one pinned thread with a single-threaded runtime: it accepts, parses, authorises,
//! limits and routes, and holds no task. In: `server` accepts, `route` finds the handler, `api`
//! parses, asks a shard through `core` and renders with `render`; `pump` brings the shards' effects
//! back to those who wait in `pending`. `authorise` asks for a proof of identity, `gate` limits and
//! has the audit log written. Out: `out` makes the calls that shards order, `oidc` those to the
//! issuer of tokens, `redis` those for what nodes share, `cluster` those to the other nodes.
//!
//! Put together by [`NetCore`]; ops mounts its own routes on it.

pub mod admit;
pub mod agents;
mod api;
pub mod audit;
mod authorise;
pub mod bodies;
pub mod body;
pub mod browser;
pub mod cluster;
pub mod conn;
pub mod core;
pub mod cost;
pub mod deltas;
pub mod extract;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod gate;
pub mod headers;
pub mod json;
mod net_core;
pub mod oidc;
pub mod opaque;
mod orders;
pub mod out;
pub mod pending;
pub mod problem;
pub mod proxies;
pub mod pump;
pub mod reads;
pub mod redis;
pub mod render;
pub mod render_event;
pub mod route;
pub mod server;
pub mod shards;
pub mod stats;
#[cfg(any(test, feature = "fuzz"))]
#[cfg_attr(not(test), allow(dead_code, reason = "the fuzzer uses a part of it"))]
mod testing;
pub mod time;
pub mod tls;
pub mod wire;

pub use agents::Registry;
pub use net_core::{NetCore, NetCoreParts, ShardLink};
pub use orders::{AgentChange, NetOrdered, NetOrders, ShardOrders};
pub use pump::Outside;
