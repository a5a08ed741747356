//! A shard's journal: the append-only file that a commit is written to and synced with, in front of
//! the index that answers reads.
//!
//! `entry` says what a batch writes, as bytes; `frame` how the entries of one commit stand in the
//! file, with their number and checksum; `file` where: a circle of blocks, of which those are free
//! that the index has durably taken over; `seen` reads it beside its writer. What a frame holds is
//! applied to the index by one path only, whether it comes from memory a moment later or from the
//! file after a crash.

pub(crate) mod entry;
pub(crate) mod file;
pub(crate) mod frame;
pub(crate) mod seen;

pub(crate) use file::JournalFile;
pub(crate) use frame::Frame;
