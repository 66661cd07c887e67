//! `tests/vectors/crc64.json` against the checksum that the upload trusts: digests, combination, and lengths up to 2^63.

use haul::model::crc64::{Shift, combine_all, crc64};
use serde_json::Value;

fn file() -> Value {
    serde_json::from_str(include_str!("vectors/crc64.json")).unwrap()
}

/// Checksums are decimal text, as on the wire.
fn number(value: &Value) -> u64 {
    value.as_str().unwrap().parse().unwrap()
}

fn bytes_of(vector: &Value) -> Vec<u8> {
    let length = vector["length"].as_u64().unwrap_or_default();
    match vector["op"].as_str().unwrap() {
        "crc" | "continue" => vector["text"].as_str().unwrap().into(),
        "pattern" => (0..length).map(|i| (i % 251) as u8).collect(),
        "zeros" => vec![0; length as usize],
        op => panic!("{op} has no bytes"),
    }
}

fn found(vector: &Value) -> u64 {
    match vector["op"].as_str().unwrap() {
        "combine" => {
            Shift::by(vector["len2"].as_u64().unwrap()).combine(number(&vector["crc1"]), number(&vector["crc2"]))
        }
        "fold" => {
            let parts = vector["parts"].as_array().unwrap();
            combine_all(parts.iter().map(|part| (number(&part[0]), part[1].as_u64().unwrap())))
        }
        "continue" => {
            let text = bytes_of(vector);
            Shift::by(text.len() as u64).combine(number(&vector["init"]), crc64(&text))
        }
        _ => crc64(&bytes_of(vector)),
    }
}

#[test]
fn every_vector_of_crc64_json_reproduces() {
    let file = file();
    let vectors = file["vectors"].as_array().unwrap();
    assert_eq!(vectors.len() as u64, file["count"].as_u64().unwrap());
    for vector in vectors {
        assert_eq!(found(vector), number(&vector["crc"]), "crc64.json {}", vector["id"]);
    }
}

#[test]
fn the_iso_polynomial_of_crc64_json_is_not_ours() {
    for vector in file()["negative"].as_array().unwrap() {
        let wrong = u64::from_str_radix(vector["wrong_crc64_iso_go_style"].as_str().unwrap(), 16).unwrap();
        assert_ne!(crc64(vector["text"].as_str().unwrap().as_bytes()), wrong);
    }
}

#[test]
fn the_factor_of_every_power_of_two_is_that_of_crc64_json() {
    const ONE: u64 = 1 << 63;
    for (k, factor) in file()["x_pow_8_2k"].as_array().unwrap().iter().enumerate() {
        let factor = u64::from_str_radix(factor.as_str().unwrap(), 16).unwrap();
        assert_eq!(Shift::by(1 << k).combine(ONE, 0), factor, "x^(8 * 2^{k})");
    }
}

#[test]
fn every_cut_of_a_text_of_crc64_json_combines_to_the_whole() {
    for vector in file()["vectors"].as_array().unwrap().iter().filter(|vector| vector["op"] == "crc") {
        let text = vector["text"].as_str().unwrap().as_bytes();
        for (head, tail) in (0..=text.len()).map(|cut| text.split_at(cut)) {
            let pieces = [head, tail].map(|piece| (crc64(piece), piece.len() as u64));
            assert_eq!(
                combine_all(pieces),
                number(&vector["crc"]),
                "crc64.json {} cut at {}",
                vector["id"],
                head.len()
            );
        }
    }
}
