//! CRC-64/XZ, the checksum of `x-oss-hash-crc64ecma`: digest, and combination of the checksums of adjacent pieces.
//!
//! # Source
//! Parameters and combination: specification, section 4.16.

/// A running CRC64.
#[derive(Clone, Default)]
pub struct Digest(crc64fast::Digest);

impl Digest {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// The checksum of all bytes so far; 0 for none.
    pub fn finish(&self) -> u64 {
        self.0.sum64()
    }
}

/// The checksum of `bytes`.
pub fn crc64(bytes: &[u8]) -> u64 {
    let mut digest = Digest::new();
    digest.update(bytes);
    digest.finish()
}

const POLYNOMIAL: u64 = 0xC96C_5795_D787_0F42;
/// x^0 in the reflected domain.
const ONE: u64 = 1 << 63;
/// x^8: what appending one zero byte multiplies by.
const X8: u64 = ONE >> 8;

/// Multiplies two polynomials modulo the CRC's, both reflected (bit 63 is x^0).
const fn multiply(mut a: u64, b: u64) -> u64 {
    let mut product = 0;
    let mut b_times_x_i = b;
    while a != 0 {
        if a & ONE != 0 {
            product ^= b_times_x_i;
        }
        a <<= 1;
        b_times_x_i = if b_times_x_i & 1 == 1 { (b_times_x_i >> 1) ^ POLYNOMIAL } else { b_times_x_i >> 1 };
    }
    product
}

/// Appends a piece of known length to a checksum. Finding the factor costs some 64 multiplications, applying it one,
/// so that the checksum of 10,000 parts of equal length is combined in well under a millisecond.
#[derive(Debug, Clone, Copy)]
pub struct Shift {
    factor: u64,
    bytes: u64,
}

impl Shift {
    /// For second pieces of `bytes` bytes.
    pub fn by(bytes: u64) -> Self {
        let (mut factor, mut square, mut left) = (ONE, X8, bytes);
        while left != 0 {
            if left & 1 == 1 {
                factor = multiply(factor, square);
            }
            square = multiply(square, square);
            left >>= 1;
        }
        Self { factor, bytes }
    }

    /// Length of the second piece, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The checksum of A‖B from the checksums of A and of B, where B has the length of this shift.
    pub fn combine(&self, a: u64, b: u64) -> u64 {
        multiply(a, self.factor) ^ b
    }
}

/// The checksum of all pieces in order, from the checksum and length in bytes of each.
pub fn combine_all(pieces: impl IntoIterator<Item = (u64, u64)>) -> u64 {
    let mut shift = Shift::by(0);
    pieces.into_iter().fold(0, |crc, (piece_crc, bytes)| {
        if shift.bytes() != bytes {
            shift = Shift::by(bytes);
        }
        shift.combine(crc, piece_crc)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_check_value_is_that_of_crc_64_xz() {
        assert_eq!(crc64(b"123456789"), 0x995d_c9bb_df19_39fa);
        assert_eq!(crc64(b""), 0);
    }

    proptest! {
        #[test]
        fn combining_equals_computing_over_the_whole(data: Vec<u8>, cuts in proptest::collection::vec(0usize..100, 0..5)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(data.len())).collect();
            cuts.extend([0, data.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|w| (crc64(&data[w[0]..w[1]]), (w[1] - w[0]) as u64));
            prop_assert_eq!(combine_all(pieces), crc64(&data));
        }
    }
}
