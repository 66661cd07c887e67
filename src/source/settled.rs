//! When the times of a file are proof that nobody has written to it.
//!
//! The clock for file times ticks, and some filesystems keep whole seconds only: a write within the granule of the last
//! one leaves every time as it is. A fingerprint that was taken within the granule of its own times therefore says nothing
//! about later writes; git calls such entries racily clean. Once the granule has passed, every later write shows.

use std::fs::File;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::fstatfs;

use crate::model::object::Fingerprint;

/// Longest tick of a kernel's clock for file times: 10 ms on Linux, 15.6 ms on Windows, rounded up.
const TICK: Duration = Duration::from_millis(20);

/// Granules that show in the digits, the coarsest first: FAT; ext2, ext3, ext4 with small inodes, HFS+ and SFTP; others.
/// Finer ones are less than a tick.
const GRANULES: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(1), Duration::from_millis(100)];

/// The clock of a file server is taken to be off by no more than that.
const SKEW_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Filesystems of this kernel, whose times come from the clock of this machine: ext2 to ext4, XFS, Btrfs, tmpfs, F2FS, ZFS,
/// overlay, FAT, exFAT. Their numbers are in `linux/magic.h`, that of ZFS in its own source.
const OURS: [u32; 9] = [
    0x0000_ef53,
    0x5846_5342,
    0x9123_683e,
    0x0102_1994,
    0xf2f5_2010,
    0x2fc1_2fc1,
    0x794c_7630,
    0x0000_4d44,
    0x2011_bab0,
];

/// Whose clock the times of a file come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    Ours,
    /// That of a server, or nobody can tell.
    Theirs,
}

impl Clock {
    pub fn of(file: &File) -> Self {
        let ours = fstatfs(file).is_ok_and(|filesystem| OURS.contains(&(filesystem.f_type as u32)));
        if ours { Self::Ours } else { Self::Theirs }
    }
}

/// How much longer a file has to stay as it is before its fingerprint is proof: zero if it is proof already. `now`: a
/// moment no later than when the fingerprint was taken.
///
/// By a clock that is not ours, or a time in the future, nothing but waiting for a whole granule can prove that it has
/// passed.
pub(super) fn unsettled(fingerprint: &Fingerprint, now: SystemTime, clock: Clock) -> Duration {
    let since = |end: SystemTime| end.duration_since(UNIX_EPOCH).map_or(0, nanoseconds);
    let left = |time: i128| {
        let (granule, age) = (granule(time), since(now).saturating_sub(time));
        let old = match clock {
            Clock::Ours => granule,
            Clock::Theirs => granule + SKEW_MAX,
        };
        match age {
            _ if age >= nanoseconds(old) => Duration::ZERO,
            0.. if clock == Clock::Ours => granule - Duration::from_nanos(age as u64),
            _ => granule,
        }
    };
    left(fingerprint.mtime_ns).max(left(fingerprint.ctime_ns))
}

/// How long after `time`, in nanoseconds since the epoch, a write may still be given the same time.
fn granule(time: i128) -> Duration {
    let divides = |granule: &&Duration| time % nanoseconds(**granule) == 0;
    GRANULES.iter().find(divides).copied().unwrap_or_default() + TICK
}

fn nanoseconds(time: Duration) -> i128 {
    time.as_nanos() as i128
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i128 = 1_000_000;
    const SECOND: i128 = 1000 * MS;

    /// What is left at `now` of the granule of a file that was written at `time`.
    fn left_at(now: i128, time: i128, clock: Clock) -> i128 {
        let fingerprint = Fingerprint { device: 1, inode: 2, bytes: 3, mtime_ns: time, ctime_ns: time };
        let now = UNIX_EPOCH + Duration::from_nanos(now as u64);
        nanoseconds(unsettled(&fingerprint, now, clock))
    }

    #[test]
    fn a_time_is_as_coarse_as_its_digits_say() {
        for (time, expected) in [
            (1000 * SECOND, 2000),
            (1001 * SECOND, 1000),
            (1001 * SECOND + 300 * MS, 100),
            (1001 * SECOND + 340 * MS, 0),
            (1001 * SECOND + 340 * MS + 1, 0),
            (0, 2000),
            (-SECOND, 1000),
        ] {
            assert_eq!(nanoseconds(granule(time)), expected * MS + 20 * MS, "{time}");
        }
    }

    #[test]
    fn what_our_own_clock_dated_is_proof_once_its_granule_has_passed() {
        let written = 1001 * SECOND;
        assert_eq!(left_at(written + 400 * MS, written, Clock::Ours), 620 * MS);
        assert_eq!(left_at(written + 1019 * MS, written, Clock::Ours), MS);
        assert_eq!(left_at(written + 1020 * MS, written, Clock::Ours), 0);
        let written = written + 123_456_789;
        assert_eq!(left_at(written + 5 * MS, written, Clock::Ours), 15 * MS, "a clock that ticks");
        assert_eq!(left_at(written + 20 * MS, written, Clock::Ours), 0);
    }

    #[test]
    fn what_another_clock_dated_is_proof_after_a_granule_of_waiting_or_a_day() {
        let now = 500_000_000 * SECOND + 1;
        let day = 24 * 3600 * SECOND;
        for skew in [-day, -3600 * SECOND, 0, 3600 * SECOND, 9999 * day] {
            assert_eq!(left_at(now, now / SECOND * SECOND + skew, Clock::Theirs), 2020 * MS, "{skew}");
        }
        assert_eq!(left_at(now, now / SECOND * SECOND - day - 3 * SECOND, Clock::Theirs), 0);
    }

    #[test]
    fn a_time_in_the_future_is_proof_after_a_granule_of_waiting() {
        let now = 1001 * SECOND;
        assert_eq!(left_at(now, now + SECOND, Clock::Ours), 2020 * MS);
        assert_eq!(left_at(now, 1 << 70, Clock::Ours), 20 * MS);
    }

    #[test]
    fn the_younger_of_the_two_times_counts() {
        let at = |mtime_ns, ctime_ns| Fingerprint { device: 1, inode: 2, bytes: 3, mtime_ns, ctime_ns };
        let now = UNIX_EPOCH + Duration::from_secs(1001);
        let (old, young) = (7 * SECOND, 1001 * SECOND);
        for fingerprint in [at(old, young), at(young, old)] {
            assert_eq!(unsettled(&fingerprint, now, Clock::Ours), Duration::from_millis(1020));
        }
        assert_eq!(unsettled(&at(old, old), now, Clock::Ours), Duration::ZERO);
    }

    #[test]
    fn the_clock_of_a_filesystem_of_this_kernel_is_ours() {
        let scratch = tempfile::tempfile().unwrap();
        assert_eq!(Clock::of(&scratch), Clock::Ours, "{:x}", fstatfs(&scratch).unwrap().f_type);
        assert_eq!(Clock::of(&File::open("/proc/version").unwrap()), Clock::Theirs);
    }
}
