//! What a process holds, and whether it holds more and more.

use std::fmt;

/// What a process holds at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    pub rss_anon_kib: u64,
    pub descriptors: u64,
    pub threads: u64,
}

impl Usage {
    pub fn of(process: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
        let number = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux says so");
            line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
        };
        Self {
            rss_anon_kib: number("RssAnon:"),
            threads: number("Threads:"),
            descriptors: descriptors(process).len() as u64,
        }
    }
}

/// What the descriptors of a process are open on, sorted.
pub fn descriptors(process: u32) -> Vec<String> {
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).expect("the process is ours").flatten();
    let targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let mut targets: Vec<_> = targets.map(|target| target.display().to_string()).collect();
    targets.sort_unstable();
    targets
}

/// The names of the threads of this process that begin so.
pub fn threads_named(prefix: &str) -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("this process runs").flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// CPU time of a process that runs, or of `self`, or of the calling thread, `thread-self`, in seconds.
pub fn cpu_seconds(process: &str) -> f64 {
    /// `USER_HZ`, the same on every architecture that Rust knows.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    // The name of the program, in brackets, may hold anything.
    let (_, rest) = stat.rsplit_once(')').expect("the name is in brackets");
    let ticks = rest.split_whitespace().skip(11).take(2).map(|word| word.parse::<f64>().expect("a number"));
    ticks.sum::<f64>() / TICKS
}

/// How a quantity went: the median of the first quarter behind the warm-up, which is a tenth, and of the last quarter.
#[derive(Debug, Clone, Copy)]
pub struct Growth {
    pub first: u64,
    pub last: u64,
    pub allowed: u64,
}

impl Growth {
    pub fn of(series: impl IntoIterator<Item = u64>, allowed: u64) -> Self {
        let series: Vec<u64> = series.into_iter().collect();
        let measured = &series[series.len() / 10..];
        let quarter = measured.len() / 4;
        assert!(quarter > 0, "{} samples are too few", series.len());
        let (first, last) = (median(&measured[..quarter]), median(&measured[measured.len() - quarter..]));
        Self { first, last, allowed }
    }

    pub fn is_leak(&self) -> bool {
        self.last > self.first + self.allowed
    }
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} (+{} allowed)", self.first, self.last, self.allowed)
    }
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// What the transfers that happen to be under way may hold more at the end than at the beginning.
const RSS_ANON_KIB: u64 = 32 << 10;
const DESCRIPTORS: u64 = 16;
const THREADS: u64 = 16;

/// The three quantities of one process, by name.
pub fn growths(samples: &[Usage]) -> [(&'static str, Growth); 3] {
    let of = |what: fn(&Usage) -> u64, allowed| Growth::of(samples.iter().map(what), allowed);
    [
        ("RssAnon KiB", of(|usage| usage.rss_anon_kib, RSS_ANON_KIB)),
        ("descriptors", of(|usage| usage.descriptors, DESCRIPTORS)),
        ("threads", of(|usage| usage.threads, THREADS)),
    ]
}

/// What grew without end, if anything.
pub fn leaks(process: &str, samples: &[Usage]) -> Vec<String> {
    let grown = growths(samples).into_iter().filter(|(_, growth)| growth.is_leak());
    grown.map(|(what, growth)| format!("{process}: {what} {growth}")).collect()
}
