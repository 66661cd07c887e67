//! The fuzzer: libFuzzer over the target that `HAUL_FUZZ` names. `--targets` lists them.

#![no_main]

use std::sync::LazyLock;

mod targets;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("HAUL_FUZZ").unwrap_or_default();
    let found = targets::ALL.iter().find(|(name, _)| *name == wanted);
    found.unwrap_or_else(|| panic!("HAUL_FUZZ names no target: {wanted:?}")).1
});

libfuzzer_sys::fuzz_target!(init: {
    if std::env::args().nth(1).as_deref() == Some("--targets") {
        targets::ALL.iter().for_each(|(name, _)| println!("{name}"));
        std::process::exit(0);
    }
}, |input: &[u8]| (*TARGET)(input));
