//! Frames of the write-ahead log: what is read of a damaged log is a prefix of what was written.

use haul::checkpoint::recovery;
use haul::checkpoint::wal::frame;

use super::pieces;

pub fn run(input: &[u8]) {
    any_bytes(input);
    a_damaged_log(input);
}

fn any_bytes(log: &[u8]) {
    let (payloads, valid) = frame::scan(log);
    let mut again = Vec::new();
    payloads.iter().for_each(|payload| frame::push(&mut again, payload));
    assert_eq!(again, log[..valid], "what was read is what stands there");
    if let Ok(found) = recovery::fold(log) {
        assert!(found.torn_bytes < log.len() as u64);
    }
}

/// The input is where the log is cut and where a byte is changed, two bytes each, how it is changed, then the payloads.
/// CRC32C notices any change within 32 bits, but for one of the length in 2^32 of cases.
fn a_damaged_log(input: &[u8]) {
    let Some(([cut0, cut1, at0, at1, flip], payloads)) = input.split_first_chunk::<5>() else { return };
    let payloads: Vec<_> = pieces(payloads).into_iter().filter(|payload| !payload.is_empty()).collect();
    let mut log = Vec::new();
    payloads.iter().for_each(|payload| frame::push(&mut log, payload));
    assert_eq!(frame::scan(&log), (payloads.clone(), log.len()));
    log.truncate(usize::from(u16::from_le_bytes([*cut0, *cut1])));
    let at = usize::from(u16::from_le_bytes([*at0, *at1]));
    let changed = log.get_mut(at).filter(|_| *flip != 0).map(|byte| *byte ^= flip).is_some();
    let (found, valid) = frame::scan(&log);
    assert_eq!(found[..], payloads[..found.len()], "a prefix");
    assert!(!changed || valid <= at, "nothing behind the damage");
}
