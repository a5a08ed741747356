//! What the benches and the table of goals share.
//!
//! The criterion benches stand in `benches/`, one file and one idea each; `shard` is one shard with
//! its outside played in memory, `disk` the bare disk, `cores` pins threads. The program `bench`
//! (`cli`) measures a running nO: `server` starts it, `rows` has a file for each group of rows of
//! DESIGN §12, `bench` what they share, `figure` is a number with its goal and what stood beside
//! it, `results` and `plot` write them down, `compare` sets two builds against each other, `peers`
//! reads what others did. `responder` has the small servers: the baseline and the rivals, which
//! `runtimes` compares. `flamegraph` draws where time goes; `predict` measures what layers cost and
//! `curve` says what more cores would give.

pub mod bench;
pub mod cli;
pub mod compare;
pub mod cores;
pub mod curve;
pub mod disk;
pub mod error;
pub mod figure;
pub mod flamegraph;
pub mod host;
pub mod peers;
pub mod plot;
pub mod predict;
pub mod process;
pub mod responder;
pub mod results;
pub mod rows;
pub mod runtimes;
pub mod server;

pub use error::{Error, Result};
pub use no_engine::shard::lone as shard;
