//! Which uploads there are, drawn from a seed, and which faults they meet.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use haul::model::settings::{Parallel, PartSize, ReaderKind};

/// What goes wrong, by what it happens to. Only what the client does is harmed, never what checks it: the check asks
/// ListParts too, and is not to wait for ever.
const FAULTS: [(&str, &[&str]); 7] = [
    ("connect", &["1%:reset", "0.5%:refuse,for=200ms"]),
    (
        "UploadPart,PutObject",
        &[
            "1%:reset",
            "2%:reset-within",
            "1%:reset-after",
            "2%:lose-answer",
            "2%:late,by=300ms",
            "0.1%:hang",
            // On the way in it would keep what is left of the body, and its connection, for days.
            "0.2%:trickle,rate=5,way=out",
            "2%:error,code=InternalError",
            "2%:error,code=ServiceUnavailable",
            "0.02%:error,code=TotalQpsLimitExceeded,delay-ms=20",
            "1%:wrong-crc",
            "1%:flip,at=50000",
            "0.1%:huge-headers",
        ],
    ),
    (
        "UploadPart",
        // What ends a run is rare: the biggest uploads have a thousand parts.
        &["0.02%:error-in-200", "0.02%:error-in-200,done=yes", "0.02%:forget-upload", "0.04%:lose-part", "1%:no-crc"],
    ),
    (
        "InitiateMultipartUpload,CompleteMultipartUpload,AbortMultipartUpload,HeadObject",
        &["2%:hang", "1%:trickle,rate=5"],
    ),
    (
        "InitiateMultipartUpload,CompleteMultipartUpload,AbortMultipartUpload,HeadObject,ListParts",
        &[
            "2%:reset",
            "2%:reset-after",
            "3%:lose-answer",
            "2%:late,by=300ms",
            "3%:error,code=InternalError",
            "3%:error,code=ServiceUnavailable",
        ],
    ),
    (
        "InitiateMultipartUpload,CompleteMultipartUpload,ListParts",
        &[
            "2%:error-in-200",
            "2%:error-in-200,done=yes",
            "2%:short",
            "2%:garbage-xml",
            "0.5%:huge-xml,bytes=1000000",
            "1%:huge-headers",
        ],
    ),
    ("CompleteMultipartUpload", &["2%:wrong-crc", "1%:forget-upload"]),
];

/// [`FAULTS`] as `haul serve` takes them.
pub fn rules() -> Vec<String> {
    FAULTS.iter().flat_map(|(what, faults)| faults.iter().map(move |fault| format!("{what}:{fault}"))).collect()
}

const MIB: u64 = 1 << 20;
/// More parts than that would make a soak of requests, not of bytes.
const PARTS_MAX: u64 = 1000;
/// What the store keeps on disk, and gives back to be compared, is not longer than that.
const KEPT_BYTES_MAX: u64 = 16 * MIB;

/// How big the uploads are.
#[derive(Clone, Copy)]
pub struct Scale {
    pub bytes_min: u64,
    pub bytes_max: u64,
    pub part_bytes: &'static [u64],
    /// Parts in flight. Each of the three clients keeps as many connections as it had parts in flight at a time, and a short
    /// soak is over before all are there: few, so that they are no growth of descriptors. No number is tuned: it could be any.
    pub parallel: &'static [u32],
}

pub const SMALL: Scale =
    Scale { bytes_min: 100 << 10, bytes_max: 4 * MIB, part_bytes: &[100 << 10, 256 << 10, MIB], parallel: &[1, 2] };
pub const FULL: Scale = Scale {
    bytes_min: MIB,
    bytes_max: 2048 * MIB,
    part_bytes: &[256 << 10, MIB, 4 * MIB, 8 * MIB, 32 * MIB, 64 * MIB, 256 * MIB],
    parallel: &[1, 2, 4, 8],
};

/// Where the checkpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    BesideFile,
    Directory,
    None,
}

/// What becomes of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is left to itself.
    Done,
    /// It is cancelled behind so many parts per cent, and taken up again.
    TakenUp(u32),
    /// It is cancelled behind so many parts per cent, for good.
    Aborted(u32),
}

/// Where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The store that keeps checksums only, with either signature.
    NullV4,
    NullV1,
    /// The store that keeps bytes.
    Directory,
}

impl Place {
    pub const ALL: [Self; 3] = [Self::NullV4, Self::NullV1, Self::Directory];
}

/// One upload.
#[derive(Debug, Clone)]
pub struct Job {
    pub number: u32,
    pub bytes: u64,
    pub part_size: PartSize,
    pub parallel: Parallel,
    pub reader: Option<ReaderKind>,
    pub memory: Memory,
    pub end: End,
    pub place: Place,
}

impl Job {
    /// The `number`th upload of a seed.
    pub fn draw(seed: u64, number: u32, scale: Scale) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let ratio = scale.bytes_max as f64 / scale.bytes_min as f64;
        let bytes = (scale.bytes_min as f64 * ratio.powf(random.f64())) as u64;
        let sizes: Vec<u64> =
            scale.part_bytes.iter().copied().filter(|size| bytes.div_ceil(*size) <= PARTS_MAX).collect();
        let size = random.choice(&sizes).copied().filter(|_| random.u32(0..8) > 0);
        let readers = [None, Some(ReaderKind::Mmap), Some(ReaderKind::Pread), Some(ReaderKind::Uring)];
        let percent = random.u32(0..100);
        let memory = *random.choice(&[Memory::BesideFile, Memory::Directory, Memory::None]).expect("there are three");
        let places: &[Place] = match bytes <= KEPT_BYTES_MAX {
            true => &[Place::NullV4, Place::NullV1, Place::Directory, Place::Directory],
            false => &[Place::NullV4, Place::NullV1],
        };
        Self {
            number,
            bytes,
            part_size: size.map_or(PartSize::Auto, PartSize::Bytes),
            parallel: Parallel::Parts(*random.choice(scale.parallel).expect("there is one")),
            reader: *random.choice(&readers).expect("there are four"),
            memory,
            end: match random.u32(0..10) {
                0 => End::Aborted(percent),
                1 | 2 if memory != Memory::None => End::TakenUp(percent),
                _ => End::Done,
            },
            place: *random.choice(places).expect("there are at least two"),
        }
    }

    pub fn key(&self) -> String {
        format!("soak-{}", self.number)
    }

    /// Writes the file to upload; gives the CRC64 of what was written.
    pub fn write_file(&self, seed: u64, path: &Path) -> u64 {
        let mut random = fastrand::Rng::with_seed(seed.rotate_left(32) ^ u64::from(self.number));
        let mut file = File::create(path).expect("the scratch directory takes files");
        let mut digest = crc64fast::Digest::new();
        let mut chunk = vec![0; MIB as usize];
        let mut left = self.bytes;
        while left > 0 {
            let bytes = left.min(MIB) as usize;
            random.fill(&mut chunk[..bytes]);
            digest.write(&chunk[..bytes]);
            file.write_all(&chunk[..bytes]).expect("the disk has room");
            left -= bytes as u64;
        }
        digest.sum64()
    }
}
