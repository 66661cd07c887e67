//! No core dump of this process: it would hold the secrets of whoever runs it.
//!
//! A secret is not in one place. It is in the environment, on the heap, in the buffers of HTTP and TLS and in the state of
//! the hashes, so pages that are excluded one by one (`MADV_DONTDUMP`) would leave copies in all others. The whole
//! process is excluded instead. The kernel also hides `/proc/PID/environ` and `/proc/PID/mem` of such a process from
//! other processes of the same user, and no debugger may attach but the superuser's.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Set to `1` to allow core dumps and debuggers.
const ALLOW: &str = "HAUL_CORE_DUMPS";

/// Forbids core dumps unless [`ALLOW`] says otherwise. Two ways at once: a program that collects dumps by a pipe is not
/// bound by the limit. Neither can fail on a kernel that haul runs on, and an upload does not depend on them.
pub fn forbid() {
    if std::env::var_os(ALLOW).is_some_and(|value| value == "1") {
        return;
    }
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let limit = getrlimit(Resource::Core);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), ..limit });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_file_nor_pipe_gets_a_dump() {
        forbid();
        assert!(matches!(rustix::process::dumpable_behavior(), Ok(DumpableBehavior::NotDumpable)));
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
    }
}
