//! File names that are made of others, and never too long for the file system.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Longest name that Linux file systems take, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Links one after the other, as the system counts them.
const LINKS_MAX: usize = 40;

/// `name` with `suffix` behind it. Where that is longer than a name may be, the end of `name` is replaced by a hash of
/// all of it: the same in every run, and another for another name.
pub fn with_suffix(name: &str, suffix: &str) -> String {
    if name.len() + suffix.len() <= NAME_BYTES_MAX {
        return format!("{name}{suffix}");
    }
    let hash: String = Sha256::digest(name).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let kept = name.floor_char_boundary(NAME_BYTES_MAX.saturating_sub(suffix.len() + hash.len() + 1));
    format!("{}~{hash}{suffix}", &name[..kept])
}

/// The directory that holds `path`.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether `path` names a descriptor of a process, as `/proc/self/fd/1` does. What such a link reads may be no path.
pub fn is_descriptor(path: &Path) -> bool {
    std::fs::canonicalize(directory_of(path)).is_ok_and(|d| d.starts_with("/proc") && d.ends_with("fd"))
}

/// Where `path` leads: itself, or what the symbolic links at its end name, be it there or not. A descriptor is not followed.
///
/// # Errors
/// What the system says, and `FilesystemLoop` for links without end.
pub fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        if is_descriptor(&path) {
            return Ok(path);
        }
        match std::fs::read_link(&path) {
            Ok(target) => path = directory_of(&path).join(target),
            Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => return Ok(path),
            Err(e) => return Err(e),
        }
    }
    Err(rustix::io::Errno::LOOP.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leaves_room_is_kept() {
        assert_eq!(with_suffix("film.mkv", ".cp"), "film.mkv.cp");
        let long = "x".repeat(NAME_BYTES_MAX - 3);
        assert_eq!(with_suffix(&long, ".cp"), format!("{long}.cp"));
    }

    #[test]
    fn a_long_name_is_cut_at_a_character_and_told_from_its_like_by_a_hash() {
        for letter in ["x", "é", "語", "🦀"] {
            for bytes in 200..=NAME_BYTES_MAX {
                let name = letter.repeat(bytes / letter.len());
                for suffix in [".cp", ".lock", ".0123456789abcdef.cp"] {
                    let derived = with_suffix(&name, suffix);
                    assert!(derived.len() <= NAME_BYTES_MAX && derived.ends_with(suffix), "{derived}");
                    assert_eq!(derived, with_suffix(&name, suffix));
                }
            }
        }
        let [a, b] = ["a", "b"].map(|end| with_suffix(&("x".repeat(254) + end), ".cp"));
        assert_ne!(a, b);
    }

    #[test]
    fn a_link_is_followed_to_what_it_names_even_if_nothing_is_there() {
        use std::os::unix::fs::symlink;
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        symlink("second", at("first")).unwrap();
        symlink(at("missing"), at("second")).unwrap();
        symlink("round", at("round")).unwrap();
        for name in ["first", "second", "missing"] {
            assert_eq!(followed(&at(name)).unwrap(), at("missing"));
        }
        assert!(followed(&at("round")).is_err());
        assert_eq!(followed(Path::new("/dev/stdout")).unwrap(), Path::new("/proc/self/fd/1"));
    }
}
