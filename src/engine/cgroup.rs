//! How much memory the control groups of this process leave it.
//!
//! Their limit of processor time needs no code here: `std::thread::available_parallelism`, which decides the number of
//! threads, knows `cpu.max` and `cpu.cfs_quota_us`.

use std::path::Path;

/// Where control groups are mounted: by systemd, and by every container runtime.
const ROOT: &str = "/sys/fs/cgroup";
/// Limits above this are none: version 1 writes "no limit" as the largest number of whole pages.
const UNLIMITED: u64 = 1 << 60;

/// The least limit of the groups that this process is in and of those around them, in bytes; `None` if there is none, or none
/// can be read.
pub(crate) fn memory_limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    least_limit(Path::new(ROOT), &groups)
}

/// - `groups`: lines of `ID:CONTROLLERS:PATH` (cgroups(7)); without controllers it is version 2.
fn least_limit(root: &Path, groups: &str) -> Option<u64> {
    let mut least = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let places: &[(&str, &str)] = match controllers {
            // Beside version 1, version 2 is mounted one level down.
            "" => &[("", "memory.max"), ("unified", "memory.max")],
            _ if controllers.split(',').any(|name| name == "memory") => &[("memory", "memory.limit_in_bytes")],
            _ => &[],
        };
        for (mount, file) in places {
            // In a container the path may be one of the host, which is not there: the mount itself is the group then.
            for group in Path::new(path.trim_start_matches('/')).ancestors() {
                let limit = std::fs::read_to_string(root.join(mount).join(group).join(file)).ok();
                let limit = limit.and_then(|text| text.trim().parse().ok()).filter(|limit| *limit < UNLIMITED);
                least = [least, limit].into_iter().flatten().min();
            }
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_files(files: &[(&str, &str)], groups: &str) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        least_limit(root.path(), groups)
    }

    #[test]
    fn the_least_limit_of_the_group_and_those_around_it_counts() {
        let files = [("a/b/memory.max", "max\n"), ("a/memory.max", "1000\n"), ("memory.max", "5000\n")];
        assert_eq!(with_files(&files, "0::/a/b\n"), Some(1000));
        assert_eq!(with_files(&files, "0::/\n"), Some(5000));
        assert_eq!(with_files(&files[..1], "0::/a/b\n"), None);
    }

    #[test]
    fn a_container_that_sees_the_path_of_its_host_is_limited_too() {
        assert_eq!(with_files(&[("memory.max", "700\n")], "0::/docker/1234\n"), Some(700));
        let groups = "5:cpu,cpuacct:/x\n4:memory:/docker/1234\n0::/\n";
        assert_eq!(with_files(&[("memory/memory.limit_in_bytes", "600\n")], groups), Some(600));
    }

    #[test]
    fn version_1_and_both_versions_at_a_time_are_read() {
        let files = [
            ("memory/a/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/memory.limit_in_bytes", "800\n"),
            ("unified/a/memory.max", "900\n"),
        ];
        assert_eq!(with_files(&files, "4:memory:/a\n0::/a\n"), Some(800));
        assert_eq!(with_files(&files[..1], "4:memory:/a\n"), None, "that is what no limit looks like");
        assert_eq!(with_files(&files[2..], "4:memory:/a\n0::/a\n"), Some(900));
    }

    #[test]
    fn nonsense_is_no_limit() {
        assert_eq!(with_files(&[("memory.max", "many\n")], "0::/\n:\nnonsense\n\n"), None);
    }
}
