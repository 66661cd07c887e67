//! Texts of options that clap has no type for: sizes, `K=V` pairs, ages.

use haul::model::object::UploadId;
use haul::model::settings::UploadRequest;

/// Smallest and largest part the store takes, in bytes (specification, limits).
const PART_BYTES: std::ops::RangeInclusive<u64> =
    haul::model::part::Limits::OSS.part_bytes_min..=haul::model::part::Limits::OSS.part_bytes_max;

/// `auto`, or a length in bytes. KB, MB and GB are powers of 1,024, as in the store's documentation, like KiB, MiB, GiB.
///
/// # Errors
/// A text for clap when this is no size, or none the store takes.
pub fn part_size(text: &str) -> Result<haul::model::settings::PartSize, String> {
    use haul::model::settings::PartSize;
    if text.eq_ignore_ascii_case("auto") {
        return Ok(PartSize::Auto);
    }
    let bytes = size(text).map_err(|_| "not a size: write auto, 8MiB, 100KB or plain bytes".to_owned())?;
    if PART_BYTES.contains(&bytes) {
        Ok(PartSize::Bytes(bytes))
    } else {
        Err(format!("{bytes} bytes: the store takes parts of 100 KiB (102400 bytes) to 5 GiB (5368709120 bytes)"))
    }
}

/// A length in bytes, written as that of a part.
///
/// # Errors
/// A text for clap when this is none.
pub fn size(text: &str) -> Result<u64, String> {
    let parsed = parse_size::Config::new().with_binary().parse_size(text);
    parsed.map_err(|_| "not a size: write 64MiB, 64MB or plain bytes".to_owned())
}

/// The length of a chunk.
///
/// # Errors
/// A text for clap when this is none.
pub fn chunk_size(text: &str) -> Result<u32, String> {
    let bytes = size(text).ok().and_then(|bytes| u32::try_from(bytes).ok());
    let bytes = bytes.filter(|bytes| UploadRequest::takes_chunks_of(*bytes));
    bytes.ok_or_else(|| "write a power of two from 64KiB to 2MiB".to_owned())
}

/// `auto`, or a number of parts.
///
/// # Errors
/// A text for clap when this is neither.
pub fn parallel(text: &str) -> Result<haul::model::settings::Parallel, String> {
    use haul::model::settings::Parallel;
    if text.eq_ignore_ascii_case("auto") {
        return Ok(Parallel::Auto);
    }
    match text.parse() {
        Ok(parts) if Parallel::PARTS.contains(&parts) => Ok(Parallel::Parts(parts)),
        _ => Err("write auto or a number from 1 to 1024".to_owned()),
    }
}

/// An upload id.
///
/// # Errors
/// A text for clap when no store can have given it.
pub fn upload_id(text: &str) -> Result<UploadId, String> {
    let id = UploadId(text.to_owned());
    let is_id = id.is_credible() && !text.trim().is_empty();
    if is_id { Ok(id) } else { Err("not an upload id: `haul uploads list` shows them".to_owned()) }
}

/// Bytes per second, where k, M and G are powers of 1,000 as with networks, and `bit/s` has eight to a byte.
///
/// # Errors
/// A text for clap when this is no rate.
pub fn rate(text: &str) -> Result<u64, String> {
    let parsed = text.trim().strip_suffix("/s").and_then(|size| match size.strip_suffix("bit") {
        Some(bits) => parse_size::parse_size(bits).ok().map(|bits| bits / 8),
        None => parse_size::parse_size(size).ok(),
    });
    parsed.ok_or_else(|| "not a rate: write 10MB/s, 512KiB/s or 1Gbit/s".to_owned())
}

/// `K=V`; the value may hold further `=` and may be empty.
///
/// # Errors
/// A text for clap when there is no `=`, or nothing before it.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// A number of bytes, at least 128 MiB.
///
/// # Errors
/// A text for clap when this is no size, or a smaller one.
pub fn budget_bytes(text: &str) -> Result<u64, String> {
    match parse_size::Config::new().with_binary().parse_size(text) {
        Ok(bytes) if bytes >= 128 << 20 => Ok(bytes),
        Ok(_) => Err("write 128MiB or more".to_owned()),
        Err(_) => Err("not a size: write 8GiB or plain bytes".to_owned()),
    }
}

/// Longest time that an option means: more is as good as no limit, and cannot be reckoned with.
const TIME_MAX: std::time::Duration = std::time::Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A time of at least a second; more than ten years count as ten.
///
/// # Errors
/// A text for clap when this is no time, or a shorter one.
pub fn idle_timeout(text: &str) -> Result<std::time::Duration, String> {
    let time = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    if time < std::time::Duration::from_secs(1) { Err("write 1s or more".to_owned()) } else { Ok(time.min(TIME_MAX)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use haul::model::settings::PartSize::{Auto, Bytes};

    #[test]
    fn sizes_are_read_as_the_help_says() {
        for (text, wanted) in [
            ("auto", Auto),
            ("8MiB", Bytes(8 << 20)),
            ("8MB", Bytes(8 << 20)),
            ("100KB", Bytes(102_400)),
            ("102400", Bytes(102_400)),
            ("5GiB", Bytes(5 << 30)),
        ] {
            assert_eq!(part_size(text), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn a_size_that_the_store_refuses_is_refused_here() {
        for text in ["102399", "0", "99KB", "6GiB", "5368709121", "", "many", "-1"] {
            assert!(part_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_read_in_bytes_and_bits() {
        for (text, wanted) in [
            ("10MB/s", Some(10_000_000)),
            ("512KiB/s", Some(512 << 10)),
            ("1Gbit/s", Some(125_000_000)),
            ("100B/s", Some(100)),
            ("10MB", None),
            ("/s", None),
            ("-1B/s", None),
            ("fast/s", None),
        ] {
            assert_eq!(rate(text).ok(), wanted, "{text}");
        }
    }

    #[test]
    fn a_pair_is_split_at_the_first_equals_sign() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("a="), Ok(("a".into(), String::new())));
        assert!(pair("=b").is_err() && pair("ab").is_err());
    }
}
