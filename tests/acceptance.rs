//! Checks the table `acceptance.md`: every row of the specification's list is in it, and every test that it names exists.

use std::collections::BTreeSet;
use std::path::Path;

const TABLE: &str = include_str!("acceptance.md");
/// How many rows each section of the list has.
const SECTIONS: [(&str, usize); 5] = [("9.1", 54), ("9.2", 13), ("9.3", 5), ("9.4", 4), ("9.5", 4)];
/// What a cell without a test must say.
const REASONS: [&str; 4] = ["client's own", "no download", "`haul` does not ", "verification is never off"];

/// Section, and the cells of each of its rows.
fn sections(table: &str) -> Vec<(String, Vec<Vec<&str>>)> {
    let mut sections = Vec::new();
    for line in table.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            sections.push((title.split(' ').next().unwrap().to_owned(), Vec::new()));
        }
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(|cell| cell.trim()).collect();
        let is_row = line.starts_with("| ") && cells[0] != "row";
        if let (true, Some((_, rows))) = (is_row, sections.last_mut()) {
            rows.push(cells);
        }
    }
    sections
}

/// The tests that a cell names, as file and function.
fn named(cell: &str) -> Vec<(&str, &str)> {
    cell.split('`').filter_map(|text| text.split_once("::")).collect()
}

fn exists(file: &str, test: &str) -> bool {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(path).is_ok_and(|text| text.contains(&format!("fn {test}()")))
}

/// Everything wrong with a table.
fn mistakes(table: &str) -> Vec<String> {
    let mut mistakes = Vec::new();
    let sections = sections(table);
    for (section, count) in SECTIONS {
        let rows = sections.iter().find(|(title, _)| title == section).map_or(&[][..], |(_, rows)| rows);
        let names: BTreeSet<&str> = rows.iter().map(|row| row[0]).collect();
        if names.len() != count {
            mistakes.push(format!("section {section} has {} rows instead of {count}", names.len()));
        }
        for row in rows {
            let unproven =
                |cell: &&&str| named(cell).is_empty() && !REASONS.iter().any(|reason| cell.starts_with(reason));
            mistakes
                .extend(row[1..].iter().filter(unproven).map(|cell| format!("{}: {cell:?} proves nothing", row[0])));
            let tests = row[1..].iter().flat_map(|cell| named(cell));
            mistakes
                .extend(tests.filter(|(f, t)| !exists(f, t)).map(|(f, t)| format!("{}: there is no {f}::{t}", row[0])));
            if row.len() != 3 {
                mistakes.push(format!("{} has {} cells", row[0], row.len()));
            }
        }
    }
    let numbers = sections.iter().filter(|(title, _)| title == "9.1").flat_map(|(_, rows)| rows);
    let numbers: Vec<usize> = numbers.filter_map(|row| row[0].split(' ').next()?.parse().ok()).collect();
    if numbers != (1..=54).collect::<Vec<_>>() {
        mistakes.push(format!("the rows of 9.1 are {numbers:?}"));
    }
    mistakes
}

#[test]
fn every_row_of_the_acceptance_list_names_a_test_that_exists_or_a_reason() {
    assert_eq!(mistakes(TABLE), [""; 0]);
}

#[test]
fn the_check_notices_a_missing_row_a_missing_test_and_an_empty_cell() {
    let without_row: String =
        TABLE.lines().filter(|line| !line.starts_with("| 17 ")).map(|l| format!("{l}\n")).collect();
    assert_eq!(mistakes(&without_row).len(), 2);
    let misnamed = TABLE.replacen("::an_upload_that_the_store_forgot", "::an_upload_that_nobody_forgot", 1);
    assert!(mistakes(&misnamed)[0].contains("there is no tests/faults.rs::an_upload_that_nobody_forgot"));
    let unproven = TABLE.replacen("| no download | client's own |", "| later | client's own |", 1);
    assert!(mistakes(&unproven)[0].contains("\"later\" proves nothing"));
}
