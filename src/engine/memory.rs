//! What a client may hold in memory, shared out.
//!
//! Half of it goes to pooled buffers, the rest to connections. What is mapped of files is page cache that the kernel can take
//! back; it is kept to the same size all the same.

use rustix::process::{Resource, getrlimit};

use super::cgroup;
use crate::net::connect::TLS_BUFFER_BYTES;
use crate::source::buffer::CHUNK_BYTES;

/// What a part in flight holds beside buffers, in bytes: its connection, request and answer. Measured: 30 KiB.
const CONNECTION_BYTES: u64 = 64 << 10;
/// What TLS adds: records that wait for the socket, and what the peer sends.
const TLS_BYTES: u64 = TLS_BUFFER_BYTES as u64 + (64 << 10);
/// Share of the control group's limit that is used unasked.
const GROUP_SHARE: u64 = 4;

/// Bounds that together keep a client within its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// All of it, in bytes; `None` if it is not bounded.
    pub limit: Option<u64>,
    pub buffer_bytes: usize,
    /// Of files, that may stay mapped. 0 where the address space of the process is limited.
    pub mapped_bytes: u64,
    /// Parts that may be in flight, and as many as there are buffers for.
    pub parts_max: u32,
    pub parts_with_buffers: u32,
    per_part: u64,
    buffer_bytes_max: u64,
}

/// Why a client cannot be kept within a limit: allow the least that works.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a memory of {limit} bytes is not enough for {parts} in flight: allow {least} bytes at least{}", fewer(*parts_max))]
pub(crate) struct TooLittle {
    limit: u64,
    parts: Parts,
    least: u64,
    parts_max: u32,
}

#[derive(Debug, PartialEq, Eq)]
struct Parts(u32);

impl std::fmt::Display for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == 1 { f.write_str("one part") } else { write!(f, "{} parts", self.0) }
    }
}

fn fewer(parts_max: u32) -> String {
    if parts_max == 0 { String::new() } else { format!(", or have {parts_max} in flight") }
}

impl Memory {
    /// - `asked`: the limit in bytes; `None`: a quarter of what the control group and `setrlimit` allow, and never too little
    ///   for one part.
    /// - `buffer_bytes`: never more for buffers.
    pub fn new(asked: Option<u64>, tls: bool, buffer_bytes: usize) -> Result<Self, TooLittle> {
        let address_space = limit_of(Resource::As);
        let around = [cgroup::memory_limit(), address_space, limit_of(Resource::Data)];
        let mut memory = Self::within(asked, around.into_iter().flatten().min(), tls, buffer_bytes)?;
        if address_space.is_some() {
            // Each part in flight would take a window of it.
            memory.mapped_bytes = 0;
        }
        Ok(memory)
    }

    fn within(asked: Option<u64>, group: Option<u64>, tls: bool, buffer_bytes: usize) -> Result<Self, TooLittle> {
        let per_part = CONNECTION_BYTES + if tls { TLS_BYTES } else { 0 };
        let all_buffers = buffer_bytes.max(2 * CHUNK_BYTES);
        let mut memory = Self {
            limit: None,
            buffer_bytes: all_buffers,
            mapped_bytes: u64::MAX,
            parts_max: u32::MAX,
            parts_with_buffers: u32::MAX,
            per_part,
            buffer_bytes_max: all_buffers as u64,
        };
        let unasked = group.map(|group| (group / GROUP_SHARE).max(memory.least(1)));
        if let Some(limit) = asked.or(unasked) {
            let half = usize::try_from(limit.div_ceil(2)).unwrap_or(usize::MAX);
            memory.limit = Some(limit);
            memory.mapped_bytes = limit;
            memory.buffer_bytes = half.clamp(2 * CHUNK_BYTES, all_buffers);
            memory.parts_max = count(limit.saturating_sub(memory.buffer_bytes as u64) / per_part);
            memory.parts_with_buffers = memory.parts_max.min(count((memory.buffer_bytes / CHUNK_BYTES) as u64));
        }
        memory.check(1).map(|()| memory)
    }

    /// Whether so many parts may be in flight.
    ///
    /// # Errors
    /// [`TooLittle`] names the least that works.
    pub fn check(&self, parts: u32) -> Result<(), TooLittle> {
        match self.limit {
            Some(limit) if parts > self.parts_max => {
                let (least, parts_max) = (self.least(parts), self.parts_max);
                Err(TooLittle { limit, parts: Parts(parts), least, parts_max })
            }
            _ => Ok(()),
        }
    }

    /// The least memory with which so many parts may be in flight.
    fn least(&self, parts: u32) -> u64 {
        let connections = self.per_part * u64::from(parts);
        connections + connections.clamp(2 * CHUNK_BYTES as u64, self.buffer_bytes_max)
    }
}

fn limit_of(resource: Resource) -> Option<u64> {
    getrlimit(resource).current
}

fn count(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const BUFFERS: usize = 48 << 20;

    fn of(bytes: u64, tls: bool) -> Result<Memory, TooLittle> {
        Memory::within(Some(bytes), None, tls, BUFFERS)
    }

    #[test]
    fn no_plan_holds_more_than_it_may() {
        for tls in [false, true] {
            let per_part = CONNECTION_BYTES + u64::from(tls) * TLS_BYTES;
            for kib in (1..20_000).step_by(37) {
                let Ok(memory) = of(kib << 10, tls) else { continue };
                let held = memory.buffer_bytes as u64 + u64::from(memory.parts_max) * per_part;
                assert!(held <= kib << 10 && memory.mapped_bytes <= kib << 10, "{kib} KiB: {memory:?}");
                assert!(memory.parts_with_buffers as usize * CHUNK_BYTES <= memory.buffer_bytes);
                assert!(memory.parts_with_buffers >= 1);
            }
        }
    }

    #[test]
    fn what_is_refused_names_the_least_that_works_and_it_works() {
        for tls in [false, true] {
            let refused = of(1, tls).unwrap_err();
            assert!(of(refused.least - 1, tls).is_err());
            let memory = of(refused.least, tls).unwrap();
            assert!(memory.check(1).is_ok());
            for parts in [2, 16, 1024] {
                let refused = of(refused.least, tls).unwrap().check(parts).unwrap_err();
                assert!(
                    of(refused.least - 1, tls).is_err() || of(refused.least - 1, tls).unwrap().check(parts).is_err()
                );
                of(refused.least, tls).unwrap().check(parts).unwrap();
            }
        }
        let said = of(16 * MIB, true).unwrap().check(64).unwrap_err().to_string();
        assert!(said.contains("64 parts in flight") && said.contains("or have 21 in flight"), "{said}");
        assert!(
            of(1, false).unwrap_err().to_string().ends_with("for one part in flight: allow 1114112 bytes at least")
        );
    }

    #[test]
    fn a_quarter_of_the_group_is_used_unasked_and_never_too_little() {
        let within = |group| Memory::within(None, group, false, BUFFERS).unwrap();
        assert_eq!(within(Some(64 * MIB)).limit, Some(16 * MIB));
        assert_eq!(within(Some(64 * MIB)).buffer_bytes as u64, 8 * MIB);
        assert!(within(Some(1)).check(1).is_ok());
        assert_eq!((within(None).limit, within(None).buffer_bytes), (None, BUFFERS));
        assert!(within(None).check(1024).is_ok());
        let asked = Memory::within(Some(32 * MIB), Some(64 * MIB), false, BUFFERS).unwrap();
        assert_eq!(asked.limit, Some(32 * MIB), "who asks may have more");
    }

    #[test]
    fn plenty_of_memory_is_not_all_made_buffers() {
        assert_eq!(of(1 << 40, true).unwrap().buffer_bytes, BUFFERS);
    }
}
