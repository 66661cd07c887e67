//! Frames: `length:u32 | crc32c:u32 | payload`, little-endian, the checksum over length and payload.
//!
//! Bytes in, bytes out. [`scan`] believes nothing: it stops at the first frame that is cut short, damaged or absurd.

/// Longest payload in bytes: far above a snapshot of 10,000 parts (about 0.4 MiB).
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// Bytes of a frame before its payload.
pub const HEADER_BYTES: usize = 8;

/// Appends a frame to `out`.
///
/// # Panics
/// If the payload is empty or longer than [`PAYLOAD_BYTES_MAX`]: callers bound what they write.
pub fn push(out: &mut Vec<u8>, payload: &[u8]) {
    assert!((1..=PAYLOAD_BYTES_MAX).contains(&payload.len()), "a frame of {} bytes", payload.len());
    let length = u32::try_from(payload.len()).expect("bounded above").to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&checksum(length, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// The payloads of the longest valid prefix of `bytes`, and the length of that prefix in bytes.
pub fn scan(bytes: &[u8]) -> (Vec<&[u8]>, usize) {
    let mut payloads = Vec::new();
    let mut valid = 0;
    while let Some(payload) = first(&bytes[valid..]) {
        valid += HEADER_BYTES + payload.len();
        payloads.push(payload);
    }
    (payloads, valid)
}

/// Looks no further for what damage left whole: some milliseconds of checksums, whatever stands there.
const RESYNC_BYTES_MAX: usize = 4 << 20;
const RESYNC_PAYLOAD_BYTES_MAX: usize = 4 << 10;

/// The payloads of at most 4 KiB that are whole anywhere in the first 4 MiB of `bytes`, whatever stands before and between
/// them: what is left of a log that was damaged.
pub fn resync(bytes: &[u8]) -> Vec<&[u8]> {
    let bytes = &bytes[..bytes.len().min(RESYNC_BYTES_MAX)];
    let (mut payloads, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        match first_within(&bytes[at..], RESYNC_PAYLOAD_BYTES_MAX) {
            Some(payload) => {
                payloads.push(payload);
                at += HEADER_BYTES + payload.len();
            }
            None => at += 1,
        }
    }
    payloads
}

fn first(bytes: &[u8]) -> Option<&[u8]> {
    first_within(bytes, PAYLOAD_BYTES_MAX)
}

fn first_within(bytes: &[u8], payload_bytes_max: usize) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let wanted = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if !(1..=payload_bytes_max).contains(&wanted) {
        return None;
    }
    let payload = rest.get(..wanted)?;
    (checksum(*length, payload) == u32::from_le_bytes(*crc)).then_some(payload)
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length), payload)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn log_of(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut log = Vec::new();
        payloads.iter().for_each(|p| push(&mut log, p));
        log
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
            let (payloads, valid) = scan(&bytes);
            prop_assert_eq!(payloads.iter().map(|p| p.len() + HEADER_BYTES).sum::<usize>(), valid);
        }

        #[test]
        fn any_prefix_of_a_log_gives_a_prefix_of_its_payloads(
            payloads in vec(vec(any::<u8>(), 1..40), 0..8), cut: prop::sample::Index,
        ) {
            let log = log_of(&payloads);
            let cut = cut.index(log.len() + 1);
            let (found, valid) = scan(&log[..cut]);
            prop_assert!(valid <= cut);
            prop_assert_eq!(&found[..], &payloads.iter().map(Vec::as_slice).collect::<Vec<_>>()[..found.len()]);
            prop_assert_eq!(found.len() == payloads.len(), cut == log.len());
        }

        #[test]
        fn a_frame_with_a_flipped_bit_is_never_accepted(
            payloads in vec(vec(any::<u8>(), 1..40), 1..8), at: prop::sample::Index,
        ) {
            let mut log = log_of(&payloads);
            let bit = at.index(log.len() * 8);
            log[bit / 8] ^= 1 << (bit % 8);
            let (found, valid) = scan(&log);
            prop_assert!(valid <= bit / 8);
            prop_assert_eq!(&found[..], &payloads.iter().map(Vec::as_slice).collect::<Vec<_>>()[..found.len()]);
        }
    }

    #[test]
    fn zeros_are_not_a_frame() {
        assert_eq!(scan(&[0; 64]), (vec![], 0));
    }
}
