//! What a run of `haul tune` found, as a file: TOML, to be read by people and by `haul put`.

use std::path::{Path, PathBuf};

use haul::model::part::Limits;
use haul::model::settings::{Parallel, UploadRequest};
use haul::os::name::{directory_of, with_suffix};
use haul::os::output;
use serde::{Deserialize, Serialize};

use super::search::{Ended, Setting, Tried};
use super::survey::Survey;
use crate::cli::file::read_text;

/// The form of the profiles that this version writes, and the only one it reads.
pub const FORMAT: u32 = 1;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Name a file that is there.
    #[error(transparent)]
    Unreadable(#[from] std::io::Error),
    /// Write it anew with `haul tune`.
    #[error("it is no profile of haul tune: {0}")]
    NotOne(String),
    /// Use the version of haul that wrote it, or write it anew.
    #[error("its format is {0}, and this version of haul reads {FORMAT}")]
    Format(u32),
}

/// What was found, how, and where. Rates are in bytes per second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    pub format: u32,
    /// Version of haul that wrote it.
    pub haul: String,
    /// RFC 3339, UTC.
    pub date: String,
    /// `scheme://host[:port]`, or what the embedded store was shaped by.
    pub endpoint: String,
    pub machine: String,
    /// Length of the uploads that are the samples.
    pub sample_bytes: u64,
    /// Whether the file was dropped from the page cache before every upload.
    pub cold: bool,
    /// The setting to use.
    pub chosen: Choice,
    /// The best of the others; none if only one was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_up: Option<Choice>,
    pub cost: Cost,
    pub survey: Survey,
    /// Every setting that was tried, with every sample.
    pub tried: Vec<Tried>,
}

/// A setting, and what it carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    #[serde(flatten)]
    pub setting: Setting,
    pub bytes_per_second: f64,
    /// 95 % confidence interval; absent for a single sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
}

impl Choice {
    /// `None` without a sample.
    pub fn of(tried: &Tried) -> Option<Self> {
        let found = tried.estimate()?;
        let interval = found.half_width.is_finite().then(|| [found.low(), found.high()]);
        Some(Self { setting: tried.setting, bytes_per_second: found.mean, interval })
    }
}

/// What a run cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    pub bytes: u64,
    pub seconds: f64,
    pub uploads: u32,
    pub budget_bytes: u64,
    pub budget_seconds: f64,
    pub ended: Ended,
}

const HEADER: &str = "\
# Written by haul tune. haul put takes [chosen] for this endpoint wherever no option says otherwise; --no-tuned ignores it.
# A value that is not there is left to haul. Rates are in bytes per second, times in seconds.

";

impl Profile {
    /// # Errors
    /// See [`ProfileError`].
    pub fn read(path: &Path) -> Result<Self, ProfileError> {
        /// Read first, so that a profile of a later version is not taken for garbage.
        #[derive(Deserialize)]
        struct Form {
            format: u32,
        }
        let refused = |e: toml::de::Error| ProfileError::NotOne(e.message().to_owned());
        let text = read_text(path)?;
        let Form { format } = toml::from_str(&text).map_err(refused)?;
        if format != FORMAT {
            return Err(ProfileError::Format(format));
        }
        let profile: Self = toml::from_str(&text).map_err(refused)?;
        check(&profile.chosen.setting).map_err(ProfileError::NotOne)?;
        Ok(profile)
    }

    /// Writes it whole or not at all, for its owner's eyes only, as it names machine and endpoint. Makes the directories
    /// that are missing.
    ///
    /// - `kept`: files that must stay as they are.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, path: &Path, kept: &[&Path]) -> std::io::Result<()> {
        let text = toml::to_string(self).map_err(std::io::Error::other)?;
        std::fs::create_dir_all(directory_of(path))?;
        output::write(path, (HEADER.to_owned() + &text).as_bytes(), 0o600, kept)
    }
}

fn check(setting: &Setting) -> Result<(), String> {
    let Setting { parallel, part_bytes, chunk_bytes, threads, .. } = setting;
    let parts = Limits::OSS.part_bytes_min..=Limits::OSS.part_bytes_max;
    match () {
        () if parallel.is_some_and(|n| !Parallel::PARTS.contains(&n)) => Err(format!("parallel is {parallel:?}")),
        () if part_bytes.is_some_and(|bytes| !parts.contains(&bytes)) => Err(format!("part_bytes is {part_bytes:?}")),
        () if chunk_bytes.is_some_and(|bytes| !UploadRequest::takes_chunks_of(bytes)) => {
            Err(format!("chunk_bytes is {chunk_bytes:?}"))
        }
        () if !(1..=256).contains(threads) => Err(format!("threads is {threads}")),
        () => Ok(()),
    }
}

/// Where the profile of an endpoint (`scheme://host[:port]`) is kept: below `$XDG_CONFIG_HOME`, else `~/.config`.
/// `None` if neither is known.
pub fn place(endpoint: &str) -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")))?;
    Some(base.join("haul/tuned").join(name(endpoint)))
}

/// A host is a file name as it is, unless somebody made one up.
fn name(endpoint: &str) -> String {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, host)| host);
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-.:[]".contains(c) { c } else { '_' };
    with_suffix(&host.chars().map(plain).collect::<String>(), ".toml")
}

#[cfg(test)]
pub mod tests {
    use haul::model::settings::ReaderKind;

    use super::*;

    pub fn profile() -> Profile {
        let tried = |reader, parallel, samples: &[f64]| Tried {
            setting: Setting { reader, parallel, part_bytes: parallel.map(|_| 1 << 20), ..Setting::automatic(2) },
            warm_up: Some(50e6),
            samples: samples.to_vec(),
            cut: 0,
        };
        let tried = vec![
            tried(None, Some(8), &[80e6, 81e6, 82e6]),
            tried(None, Some(16), &[160e6, 161e6, 162e6]),
            tried(Some(ReaderKind::Uring), Some(16), &[150e6, 155e6, 160e6]),
            tried(None, None, &[100e6]),
        ];
        Profile {
            format: FORMAT,
            haul: "0.1.0".into(),
            date: "2025-01-01T00:00:00Z".into(),
            endpoint: "https://oss-cn-hangzhou.aliyuncs.com".into(),
            machine: "host, 2 cores".into(),
            sample_bytes: 64 << 20,
            cold: false,
            chosen: Choice::of(&tried[1]).unwrap(),
            runner_up: Choice::of(&tried[2]),
            cost: Cost {
                bytes: 1 << 30,
                seconds: 12.5,
                uploads: 17,
                budget_bytes: 8 << 30,
                budget_seconds: 120.0,
                ended: Ended::Decided,
            },
            survey: Survey {
                cores: 2,
                disk: 1e9,
                crc64: 10e9,
                encryption: 3e9,
                connection: 0.002,
                latency: 0.0005,
                one_connection: 12e6,
                automatic: 100e6,
            },
            tried,
        }
    }

    #[test]
    fn a_profile_is_read_as_it_was_written_and_is_nobody_elses_to_read() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("a/b/host.toml");
        for _ in 0..2 {
            profile().write(&path, &[]).unwrap();
            assert_eq!(Profile::read(&path).unwrap(), profile());
        }
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(path.parent().unwrap().read_dir().unwrap().count(), 1, "nothing else is left");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# Written by haul tune") && text.contains("[chosen]\nparallel = 16\n"), "{text}");
    }

    #[test]
    fn a_profile_that_cannot_be_used_says_why() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("p.toml");
        let refused = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Profile::read(&path).unwrap_err()
        };
        assert!(matches!(refused("\u{0}garbage"), ProfileError::NotOne(_)));
        assert!(matches!(refused("format = 1"), ProfileError::NotOne(_)));
        assert!(matches!(refused("format = 2\nwhatever = 'comes'"), ProfileError::Format(2)));
        assert!(matches!(Profile::read(scratch.path()), Err(ProfileError::Unreadable(_))));
        let edits: [fn(&mut Setting); 5] = [
            |s| s.parallel = Some(0),
            |s| s.parallel = Some(1025),
            |s| s.part_bytes = Some(1),
            |s| s.chunk_bytes = Some(100_000),
            |s| s.threads = 0,
        ];
        for (i, edit) in edits.into_iter().enumerate() {
            let mut edited = profile();
            edit(&mut edited.chosen.setting);
            edited.write(&path, &[]).unwrap();
            assert!(matches!(Profile::read(&path), Err(ProfileError::NotOne(_))), "edit {i}");
        }
    }

    #[test]
    fn no_endpoint_leads_out_of_the_directory() {
        assert_eq!(name("https://oss-cn-hangzhou.aliyuncs.com"), "oss-cn-hangzhou.aliyuncs.com.toml");
        assert_eq!(name("http://127.0.0.1:9000"), "127.0.0.1:9000.toml");
        assert_eq!(name("http://../../x"), ".._.._x.toml");
    }
}
