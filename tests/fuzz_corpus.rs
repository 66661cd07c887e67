//! The kept corpus of the fuzzer, seeds and findings, through the same functions: a finding stays mended.

use std::collections::BTreeSet;
use std::path::Path;

#[path = "fuzz/src/targets/mod.rs"]
mod targets;

/// Inputs of a target by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let read = |path: &Path| (path.display().to_string(), std::fs::read(path).unwrap());
    files.map(|file| read(&file.unwrap().path())).collect()
}

#[test]
fn every_input_of_the_corpus_keeps_what_its_target_promises() {
    for (name, target) in targets::ALL {
        let inputs = corpus(name);
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for (path, input) in inputs {
            let kept = std::panic::catch_unwind(|| target(&input));
            assert!(kept.is_ok(), "{path} breaks a promise of {name}; see above");
        }
    }
}

#[test]
fn every_corpus_belongs_to_a_target() {
    let folders = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/corpus")).unwrap();
    let mut folders: Vec<_> = folders.map(|folder| folder.unwrap().file_name().into_string().unwrap()).collect();
    folders.sort();
    assert_eq!(folders, targets::ALL.map(|(name, _)| name));
}

/// Name and version of every package that a lock file names.
fn locked(path: &str) -> BTreeSet<(String, String)> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let lock: toml::Table = text.parse().unwrap();
    let text = |package: &toml::Value, name: &str| package[name].as_str().unwrap().to_owned();
    let packages = lock["package"].as_array().unwrap();
    packages.iter().map(|package| (text(package, "name"), text(package, "version"))).collect()
}

#[test]
fn what_is_fuzzed_is_what_is_built() {
    let own = ["haul-fuzz", "libfuzzer-sys", "arbitrary"];
    let built = locked("Cargo.lock");
    let others: Vec<_> = locked("tests/fuzz/Cargo.lock").difference(&built).cloned().collect();
    let others: Vec<_> = others.iter().filter(|(name, _)| !own.contains(&name.as_str())).collect();
    let mend = "cp Cargo.lock tests/fuzz/ && cargo metadata --manifest-path tests/fuzz/Cargo.toml >/dev/null";
    assert!(others.is_empty(), "{others:?} differ from Cargo.lock: {mend}");
}
