//! What strangers send nO: one target for each way in. A target takes any bytes, has nO read them,
//! and panics when nO does what it must not; that nothing panics by itself is the least of it.
//!
//! `make fuzz` lets libFuzzer (LLVM) search for such inputs by the code that each reaches; the
//! inputs in `corpus/<target>/` are where it begins, and `cargo test` runs every target over all of
//! them. An input that was found stays there. They are texts: the first byte chooses among what a
//! target can do, so that a mutation of it is another try and not an error.

mod address;
mod api;
mod browser;
mod config;
mod forwarded;
mod issuer;
mod stream;
mod token;

/// A way in: its name, and what is held against an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 8] = [
    ("token", token::check),
    ("issuer", issuer::check),
    ("browser", browser::check),
    ("config", config::check),
    ("api", api::check),
    ("stream", stream::check),
    ("forwarded", forwarded::check),
    ("address", address::check),
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, check)| *check)
}

/// Now, for everything that asks: in s since 1970.
const NOW_S: u64 = 1_800_000_000;

/// The choice that an input makes, and the rest of it; `None` for one that is empty or no text.
fn chosen(data: &[u8]) -> Option<(u8, &str)> {
    let (first, rest) = data.split_first()?;
    Some((*first, std::str::from_utf8(rest).ok()?))
}
