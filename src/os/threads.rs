//! Threads that are there before the work that needs them.
//!
//! tokio takes it for granted that the system gives it threads. Refused one while a runtime is built, it panics, and waits
//! for ever for those that it got; refused the first one that may wait for a disk, it panics in the middle of the work. Here
//! a runtime has all threads that it cannot do without, or there is none, and the caller hears why.

use std::io;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// Threads that a transfer starts besides those of its runtime: the journal and the ring.
const OF_A_TRANSFER: usize = 2;

/// How long a thread that may wait for a disk is kept while it has nothing to do. As long as there is one, tokio queues work
/// for which the system gives it no other.
const KEPT: Duration = Duration::MAX;

/// A runtime of so many threads that work, and of one that may wait for a disk; of those there may be more later.
///
/// # Errors
/// What the system says when it refuses a thread or its memory; none is left then.
pub fn runtime(workers: usize, name: &str) -> io::Result<Runtime> {
    check_descriptors()?;
    check(workers + 1 + OF_A_TRANSFER)?;
    let of_its_own = || thread::Builder::new().name(format!("{name}-start"));
    thread::scope(|scope| {
        let building = of_its_own().spawn_scoped(scope, || build(workers, name))?;
        building.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// A runtime that only waits, on the thread of its caller.
///
/// # Errors
/// What the system says when it refuses descriptors.
pub fn waiting() -> io::Result<Runtime> {
    check_descriptors()?;
    Builder::new_current_thread().enable_all().build()
}

/// Whether the system gives as many descriptors as a runtime opens: one to wait with, one to be woken by, and the ends of a
/// pipe for signals, once more for itself. For some of them tokio panics.
fn check_descriptors() -> io::Result<()> {
    let pair = UnixStream::pair;
    let _open = (pair()?, pair()?, pair()?);
    Ok(())
}

/// Whether the system gives so many threads at a time. tokio says what it says with a panic, so it is asked before.
fn check(threads: usize) -> io::Result<()> {
    let end = OnceLock::new();
    thread::scope(|scope| {
        let wait = || {
            end.wait();
        };
        let started: io::Result<Vec<_>> =
            (0..threads).map(|_| thread::Builder::new().spawn_scoped(scope, wait)).collect();
        let _ = end.set(());
        started?.into_iter().try_for_each(|thread| thread.join().map_err(|_| io::Error::other("a thread panicked")))
    })
}

/// Others may have taken the threads meanwhile. Then tokio's panic is caught, and no thread that it got begins to work.
///
/// Within a runtime, because there tokio does not wait for the threads of one that it gives up.
fn build(workers: usize, name: &str) -> io::Result<Runtime> {
    let complete = Arc::new(OnceLock::<bool>::new());
    let begins = complete.clone();
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(workers).thread_name(name).thread_keep_alive(KEPT).enable_all();
    builder.on_thread_start(move || {
        if !*begins.wait() {
            resume_unwind(Box::new("the runtime is given up"));
        }
    });
    let all = AssertUnwindSafe(|| {
        let runtime = builder.build()?;
        drop(runtime.spawn_blocking(|| ()));
        Ok(runtime)
    });
    let built = Builder::new_current_thread().build()?.block_on(async { catch_unwind(all) });
    let built = built.unwrap_or_else(|panic| Err(io::Error::other(said(panic.as_ref()))));
    let _ = complete.set(built.is_ok());
    built
}

/// What a panic said.
pub fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a thread panicked".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_has_a_thread_that_may_wait_before_it_is_asked_for_one() {
        let runtime = runtime(2, "haul-test").unwrap();
        assert_eq!(runtime.metrics().num_workers(), 2);
        let waited = runtime.block_on(async { tokio::task::spawn_blocking(|| 7).await });
        assert_eq!(waited.unwrap(), 7);
    }

    const CALLED_AGAIN: &str = "HAUL_TEST_THREADS_REFUSED";
    const GIVEN_UP: &str = "the runtime was given up";

    /// One after the other, the threads of a runtime are refused after all of them were to be had. `strace` does that to
    /// this test, called again in a process of its own; one of the threads is that of the harness.
    #[test]
    fn a_runtime_that_gets_only_some_of_its_threads_is_given_up_and_leaves_none() {
        if std::env::var_os(CALLED_AGAIN).is_some() {
            let before = count();
            if build(2, "haul-test").is_err() {
                println!("{GIVEN_UP}");
                while count() > before {
                    thread::yield_now();
                }
            }
            return;
        }
        let name = "os::threads::tests::a_runtime_that_gets_only_some_of_its_threads_is_given_up_and_leaves_none";
        let mut given_up = 0;
        for n in 1..=4 {
            let mut strace = std::process::Command::new("strace");
            strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=clone3", "-e"]);
            strace.arg(format!("inject=clone3:error=EAGAIN:when={n}")).arg(std::env::current_exe().unwrap());
            strace.args(["--exact", name, "--test-threads=1", "--nocapture"]).env(CALLED_AGAIN, "1");
            let Ok(run) = strace.output() else { return eprintln!("NOT TESTED: strace is missing") };
            let said = String::from_utf8_lossy(&run.stdout);
            assert!(run.status.success(), "{n}: {said}");
            given_up += u32::from(said.contains(GIVEN_UP));
        }
        assert!(given_up >= 2, "{given_up}");
    }

    fn count() -> usize {
        std::fs::read_dir("/proc/self/task").unwrap().count()
    }

    #[test]
    fn a_runtime_that_is_asked_for_within_another_is_given_too() {
        let outer = Builder::new_current_thread().build().unwrap();
        let inner = outer.block_on(async { runtime(1, "haul-test") }).unwrap();
        inner.shutdown_background();
    }
}
