//! How an object is cut into parts: all of one length except the last, which gets the rest.

use std::fmt;

use serde::{Deserialize, Serialize};

const MIB: u64 = 1 << 20;

/// What a store allows, in bytes and counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Smallest part but for the last.
    pub part_bytes_min: u64,
    /// Largest part.
    pub part_bytes_max: u64,
    /// Most parts of one object; part numbers run from 1 to this.
    pub parts_max: u32,
    /// Largest object that a single PUT may make.
    pub put_bytes_max: u64,
}

impl Limits {
    /// OSS: parts of 100 KiB to 5 GiB, 10,000 of them, single PUT up to 5 GiB (specification, section 4.0).
    pub const OSS: Self =
        Self { part_bytes_min: 100 << 10, part_bytes_max: 5 << 30, parts_max: 10_000, put_bytes_max: 5 << 30 };
}

/// Number of a part: 1 to [`Limits::parts_max`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartNumber(u32);

impl PartNumber {
    /// `None` if `number` is 0.
    pub fn new(number: u32) -> Option<Self> {
        (number > 0).then_some(Self(number))
    }

    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for PartNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One part: bytes `offset .. offset + bytes` of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub number: PartNumber,
    pub offset: u64,
    pub bytes: u64,
}

/// Why no plan covers an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The object cannot be stored in one piece: split it.
    #[error("{object_bytes} bytes are more than the store takes in one object ({max} bytes)")]
    TooLarge { object_bytes: u64, max: u64 },
}

/// An object cut into parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartPlan {
    object_bytes: u64,
    part_bytes: u64,
}

impl PartPlan {
    /// Cuts `object_bytes` (at least 1; an empty object is a single PUT) into parts of `wanted_bytes`, moved into
    /// `limits`, then grown to the next whole MiB if the object would otherwise need more than `limits.parts_max`.
    ///
    /// # Errors
    /// [`PlanError::TooLarge`] if not even the largest parts cover the object.
    ///
    /// # Source
    /// Limits: specification, section 4.0.
    pub fn new(object_bytes: u64, wanted_bytes: u64, limits: Limits) -> Result<Self, PlanError> {
        assert!(object_bytes > 0, "empty objects are uploaded by a single PUT");
        let max = limits.part_bytes_max.saturating_mul(limits.parts_max.into());
        if object_bytes > max {
            return Err(PlanError::TooLarge { object_bytes, max });
        }
        let mut part_bytes = wanted_bytes.clamp(limits.part_bytes_min, limits.part_bytes_max);
        let least = object_bytes.div_ceil(limits.parts_max.into());
        if part_bytes < least {
            part_bytes = least.next_multiple_of(MIB).min(limits.part_bytes_max);
        }
        Ok(Self { object_bytes, part_bytes })
    }

    /// Smaller objects go in a single PUT when the user names no part length, in bytes.
    pub const AUTO_SINGLE_BYTES: u64 = 8 * MIB;

    /// The part length to use when the user names none: 1 MiB, doubled while the object needs too many parts. Small parts
    /// keep many connections busy to the end; large ones cost less each.
    ///
    /// It depends on the object alone, so that every run on the same file makes the same plan and can resume.
    pub fn auto_part_bytes(object_bytes: u64) -> u64 {
        let mut part_bytes = MIB;
        while object_bytes.div_ceil(part_bytes) > Self::auto_parts_max(part_bytes) && part_bytes < 512 * MIB {
            part_bytes *= 2;
        }
        part_bytes
    }

    fn auto_parts_max(part_bytes: u64) -> u64 {
        match part_bytes / MIB {
            0..4 => 128,
            4..8 => 512,
            _ => 2_000,
        }
    }

    pub fn object_bytes(&self) -> u64 {
        self.object_bytes
    }

    /// Length of every part but the last, in bytes.
    pub fn part_bytes(&self) -> u64 {
        self.part_bytes
    }

    /// How many parts: 1 to [`Limits::parts_max`].
    pub fn count(&self) -> u32 {
        u32::try_from(self.object_bytes.div_ceil(self.part_bytes)).expect("new() kept the count within limits")
    }

    /// The part of that number, or `None` if the plan has fewer.
    pub fn part(&self, number: PartNumber) -> Option<Part> {
        let offset = u64::from(number.get() - 1).checked_mul(self.part_bytes)?;
        let left = self.object_bytes.checked_sub(offset).filter(|left| *left > 0)?;
        Some(Part { number, offset, bytes: left.min(self.part_bytes) })
    }

    /// All parts in the order of their numbers.
    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        (1..=self.count()).map_while(|n| self.part(PartNumber(n)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_cover_the_object_without_gap_or_overlap(object in 1u64..1 << 45, wanted in 0u64..6 << 30) {
            let plan = PartPlan::new(object, wanted, Limits::OSS).unwrap();
            let mut next = 0;
            for (i, part) in plan.parts().enumerate() {
                prop_assert_eq!(part.number.get() as usize, i + 1);
                prop_assert_eq!(part.offset, next);
                prop_assert!(part.bytes > 0 && part.bytes <= plan.part_bytes());
                next += part.bytes;
            }
            prop_assert_eq!(next, object);
        }

        #[test]
        fn a_plan_never_needs_more_parts_than_the_store_allows(object in 1u64..=53_687_091_200_000, wanted: u64) {
            let plan = PartPlan::new(object, wanted, Limits::OSS).unwrap();
            prop_assert!(plan.count() <= Limits::OSS.parts_max);
            prop_assert!((Limits::OSS.part_bytes_min..=Limits::OSS.part_bytes_max).contains(&plan.part_bytes()));
        }
    }

    #[test]
    fn the_largest_object_fits_and_one_byte_more_does_not() {
        let max = 10_000 * (5u64 << 30);
        assert_eq!(PartPlan::new(max, 1, Limits::OSS).unwrap().count(), 10_000);
        assert!(matches!(PartPlan::new(max + 1, 1, Limits::OSS), Err(PlanError::TooLarge { .. })));
    }

    #[test]
    fn a_part_beyond_the_plan_does_not_exist() {
        let plan = PartPlan::new(250 << 10, 100 << 10, Limits::OSS).unwrap();
        assert_eq!(plan.part(PartNumber(3)).unwrap().bytes, 50 << 10);
        assert_eq!(plan.part(PartNumber(4)), None);
        assert_eq!(plan.part(PartNumber(u32::MAX)), None);
    }
}
