//! The fuzzer of one target, which `FUZZ_TARGET` names; its options are libFuzzer's. `.ci/fuzz`
//! builds it with coverage and runs it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fn named() -> fn(&[u8]) {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    no_fuzz::target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET is {name:?}, which is no target"))
}

fuzz_target!(|data: &[u8]| TARGET.get_or_init(named)(data));
