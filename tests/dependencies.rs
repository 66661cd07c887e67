//! `tests/dependencies.md` is the review of what haul stands on: this keeps it true.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

const REVIEW: &str = include_str!("dependencies.md");

/// What a licence expression may come down to.
const LICENCES: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "ISC",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "Unlicense",
    "CC0-1.0",
    "Unicode-3.0",
];

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[test]
fn every_crate_that_is_named_in_cargo_toml_is_reviewed_under_its_licence_and_no_other() {
    let metadata = metadata();
    assert_eq!(tables(&["In the program", "In tests and benches"]), direct(&metadata));
}

#[test]
fn every_crate_below_comes_from_crates_io_under_a_licence_that_lets_haul_be_mit_or_apache() {
    let metadata = metadata();
    let strangers: Vec<_> = packages(&metadata).filter(|p| !is_welcome(p)).map(|p| p["id"].to_string()).collect();
    assert!(strangers.is_empty(), "{strangers:#?}");
}

#[test]
fn two_versions_of_a_crate_are_only_where_the_review_says_why() {
    let explained: BTreeSet<_> = tables(&["Two versions of one crate in the program"]).into_keys().collect();
    assert_eq!(explained, twice(&metadata()));
}

#[test]
fn a_copyleft_licence_and_a_foreign_source_are_noticed() {
    let package = |licence: &str, source: &str| serde_json::json!({"license": licence, "source": source});
    assert!(is_welcome(&package("MIT OR GPL-3.0", CRATES_IO)));
    assert!(!is_welcome(&package("GPL-3.0", CRATES_IO)));
    assert!(!is_welcome(&package("MIT AND GPL-3.0", CRATES_IO)));
    assert!(is_welcome(&package("(MIT OR Apache-2.0) AND Unicode-3.0", CRATES_IO)));
    assert!(!is_welcome(&package("MIT", "git+https://example.com/x")));
    assert!(!is_welcome(&serde_json::json!({"license": null, "source": CRATES_IO})));
}

/// What cargo knows of the packages that this machine's build takes.
fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// First two columns of the rows under these headings.
fn tables(headings: &[&str]) -> BTreeMap<String, String> {
    let mut wanted = false;
    let mut rows = BTreeMap::new();
    for line in REVIEW.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            wanted = headings.contains(&heading);
        }
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        if wanted && cells.len() > 3 && cells[1] != "crate" && !cells[1].starts_with("--") {
            rows.insert(cells[1].to_owned(), cells[2].to_owned());
        }
    }
    rows
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    let built: BTreeSet<_> =
        metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap()).collect();
    let is_haul = |package: &&Value| package["name"] != "haul";
    let all = metadata["packages"].as_array().unwrap().iter();
    all.filter(move |package| built.contains(package["id"].as_str().unwrap())).filter(is_haul)
}

/// Crates of `Cargo.toml` with their licences, in today's way of writing them.
fn direct(metadata: &Value) -> BTreeMap<String, String> {
    let all = metadata["packages"].as_array().unwrap();
    let haul = all.iter().find(|package| package["name"] == "haul").unwrap();
    let named: BTreeSet<_> =
        haul["dependencies"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap()).collect();
    let node = metadata["resolve"]["nodes"].as_array().unwrap().iter().find(|node| node["id"] == haul["id"]).unwrap();
    let ids = node["dependencies"].as_array().unwrap();
    let packages = packages(metadata).filter(|p| ids.contains(&p["id"]) && named.contains(p["name"].as_str().unwrap()));
    packages.map(|p| (p["name"].as_str().unwrap().to_owned(), licence(p).replace('/', " OR "))).collect()
}

fn licence(package: &Value) -> &str {
    package["license"].as_str().unwrap_or("none")
}

fn is_welcome(package: &Value) -> bool {
    package["source"] == CRATES_IO && allows(&licence(package).replace(" / ", " OR ").replace('/', " OR "))
}

/// Whether an SPDX expression can be met from [`LICENCES`]. Innermost brackets are settled first; AND binds closer than OR.
fn allows(expression: &str) -> bool {
    if let Some(open) = expression.rfind('(') {
        let Some(length) = expression[open..].find(')') else { return false };
        let inner = if allows(&expression[open + 1..open + length]) { "MIT" } else { "refused" };
        return allows(&format!("{}{inner}{}", &expression[..open], &expression[open + length + 1..]));
    }
    expression.split(" OR ").any(|all| all.split(" AND ").all(|one| LICENCES.contains(&one.trim())))
}

/// Names that are in the program, or in what builds it, in more than one version.
fn twice(metadata: &Value) -> BTreeSet<String> {
    let nodes: BTreeMap<_, _> =
        metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|n| (n["id"].as_str().unwrap(), n)).collect();
    let mut seen = BTreeSet::new();
    let mut next = vec![metadata["resolve"]["root"].as_str().unwrap()];
    while let Some(id) = next.pop() {
        if seen.insert(id) {
            let is_normal = |d: &&Value| d["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null());
            let deps = nodes[id]["deps"].as_array().unwrap().iter().filter(is_normal);
            next.extend(deps.map(|d| d["pkg"].as_str().unwrap()));
        }
    }
    let mut versions = BTreeMap::<_, u32>::new();
    for package in packages(metadata).filter(|p| seen.contains(p["id"].as_str().unwrap())) {
        *versions.entry(package["name"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    versions.into_iter().filter(|(_, count)| *count > 1).map(|(name, _)| name).collect()
}
