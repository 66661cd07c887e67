//! Where the time of an upload went, and what limits its speed.
//!
//! Time is that of the parts in flight: 8 of them for a second are 8 s. It says where parts wait; what they wait for is what
//! limits the upload, unless it is the processor, which makes everything wait.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::settings::Parallel;

/// What a part in flight spends its time on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// Its turn, or another try, after the store asked for less.
    Throttled,
    /// Another try after a fault.
    Retry,
    /// A connection: name, TCP, proxy, TLS.
    Connection,
    /// The file to be read.
    Disk,
    /// A buffer to read into.
    Buffer,
    Checksum,
    /// Encryption.
    Tls,
    /// The network to take bytes.
    Socket,
    /// The answer, from the last byte that was handed over.
    Store,
    /// What the client's own limit of bytes per second lets pass.
    Rate,
    /// What the client's own share of the processor lets pass.
    CpuShare,
    /// A thread to go on, and what it does beside the above.
    Other,
}

impl Cost {
    /// In the order in which they are shown.
    pub const ALL: [Self; 12] = [
        Self::Disk,
        Self::Buffer,
        Self::Checksum,
        Self::Tls,
        Self::Socket,
        Self::Store,
        Self::Throttled,
        Self::Rate,
        Self::CpuShare,
        Self::Connection,
        Self::Retry,
        Self::Other,
    ];

    /// Its name in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Retry => "retry",
            Self::Connection => "connection",
            Self::Disk => "disk",
            Self::Buffer => "buffer",
            Self::Checksum => "checksum",
            Self::Tls => "tls",
            Self::Socket => "socket",
            Self::Store => "store",
            Self::Rate => "rate",
            Self::CpuShare => "cpu_share",
            Self::Other => "other",
        }
    }
}

/// How much time went into each. Serialised, an object of seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Costs([Duration; Cost::ALL.len()]);

impl Costs {
    pub fn add(&mut self, cost: Cost, time: Duration) {
        self.0[cost as usize] += time;
    }

    pub fn get(&self, cost: Cost) -> Duration {
        self.0[cost as usize]
    }

    pub fn total(&self) -> Duration {
        self.0.iter().sum()
    }

    /// Share of the whole, 0 to 1.
    pub fn share(&self, cost: Cost) -> f64 {
        self.get(cost).as_secs_f64() / self.total().as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

impl Serialize for Costs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Cost::ALL.map(|cost| (cost.name(), self.get(cost).as_secs_f64())))
    }
}

/// What is known of an upload that has ended.
#[derive(Debug, Clone)]
pub struct Figures {
    pub costs: Costs,
    pub elapsed: Duration,
    /// Processor time of the whole process meanwhile.
    pub cpu: Duration,
    /// Cores that the process may use, and threads that the client has for network and checksums.
    pub cores: usize,
    pub threads: usize,
    /// As asked for, and how many parts could be in flight at the end.
    pub parallel: Parallel,
    pub in_flight: u32,
    /// Parts of the file; 0 or 1 where it goes in one piece.
    pub parts: u32,
}

/// What limits the speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Limit {
    /// Nothing was sent.
    Nothing,
    /// Reading the file.
    Disk,
    /// Too few buffers for the parts in flight.
    Buffers,
    /// Connections that take no more each, while more of them were not tried.
    Connections,
    /// The line: more connections were tried and carried no more.
    Line,
    /// How long the store takes for an answer.
    Store,
    /// The store asked for less.
    Throttling,
    /// Encryption.
    Tls,
    /// The client's own limit of bytes per second.
    Rate,
    /// The client's own share of the processor.
    CpuShare,
    Cpu,
    /// Setting up connections.
    Connecting,
    /// What failed and was tried again.
    Failures,
}

/// A processor that is busy to this share lets everything else wait for it.
const CPU_BUSY: f64 = 0.85;
/// Share of the processor's time from which encryption is what keeps it busy: with what TLS adds in copies it is twice as
/// much (1 core over loopback, 2 GiB: 23 % of 1.67 s, which are 1.02 s without TLS).
const TLS_OF_BUSY: f64 = 0.2;

impl Figures {
    /// Share of the processor time that the client's threads can have, 0 to about 1.
    pub fn cpu_share(&self) -> f64 {
        let most = self.elapsed.as_secs_f64() * self.usable_cores() as f64;
        self.cpu.as_secs_f64() / most.max(f64::MIN_POSITIVE)
    }

    fn is_busy(&self) -> bool {
        self.cpu_share() >= CPU_BUSY
    }

    /// Share of the processor's time that encryption takes: parts that encrypt do not wait.
    fn tls_of_cpu(&self) -> f64 {
        self.costs.get(Cost::Tls).as_secs_f64() / self.cpu.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    fn usable_cores(&self) -> usize {
        self.threads.min(self.cores).max(1)
    }

    /// What limits the speed.
    pub fn limit(&self) -> Limit {
        let costs = &self.costs;
        if costs.total().is_zero() {
            return Limit::Nothing;
        }
        if self.is_busy() {
            return if self.tls_of_cpu() >= TLS_OF_BUSY { Limit::Tls } else { Limit::Cpu };
        }
        let own = costs.get(Cost::Checksum) + costs.get(Cost::Other);
        let time_of = |(limit, cost): (Limit, Cost)| (costs.get(cost), limit);
        let waits = [
            (Limit::Disk, Cost::Disk),
            (Limit::Buffers, Cost::Buffer),
            (Limit::Tls, Cost::Tls),
            (self.line_or_connections(), Cost::Socket),
            (Limit::Store, Cost::Store),
            (Limit::Throttling, Cost::Throttled),
            (Limit::Rate, Cost::Rate),
            (Limit::CpuShare, Cost::CpuShare),
            (Limit::Connecting, Cost::Connection),
            (Limit::Failures, Cost::Retry),
        ];
        let (_, limit) = waits.map(time_of).into_iter().fold((own, Limit::Cpu), |a, b| if b.0 > a.0 { b } else { a });
        if limit == Limit::Buffers { self.behind_buffers() } else { limit }
    }

    /// Who waits for a buffer waits for those that have one: if they in turn wait for the disk, or for our own limit, more
    /// buffers would only make them more.
    fn behind_buffers(&self) -> Limit {
        let rest = self.costs.total() - self.costs.get(Cost::Buffer);
        let most_of_rest = |cost| self.costs.get(cost) > rest / 2;
        match () {
            () if most_of_rest(Cost::Disk) => Limit::Disk,
            () if most_of_rest(Cost::Rate) => Limit::Rate,
            () if most_of_rest(Cost::CpuShare) => Limit::CpuShare,
            () => Limit::Buffers,
        }
    }

    fn line_or_connections(&self) -> Limit {
        if self.parallel == Parallel::Auto && self.parts > self.in_flight { Limit::Line } else { Limit::Connections }
    }

    /// A sentence that names what limits the speed, and the knob that would move it.
    pub fn sentence(&self) -> String {
        let percent = |cost| format!("{:.0} % of the time", self.costs.share(cost) * 100.0);
        match self.limit() {
            Limit::Nothing => "Nothing was sent.".to_owned(),
            Limit::Disk => format!(
                "The disk is the limit, parts wait for the file {}: a faster disk or another --reader would move it.",
                percent(Cost::Disk)
            ),
            Limit::Buffers => format!(
                "Buffers are the limit, parts wait for a free one {}: more --memory would move it, or fewer --parallel \
                 (now {}) do as well.",
                percent(Cost::Buffer),
                self.in_flight
            ),
            Limit::Connections => format!(
                "The connections take no more, parts wait for the network {}: {}.",
                percent(Cost::Socket),
                self.more_at_a_time("carry more unless the line is full")
            ),
            Limit::Line => format!(
                "The line or the store's bandwidth is full, parts wait for the network {} and more than {} of them \
                 carried no more: only a wider line or a nearer --endpoint would move it.",
                percent(Cost::Socket),
                self.in_flight
            ),
            Limit::Store => {
                let more = self.more_at_a_time("hide it");
                format!("The store thinks {}, the way there and back included: {more}.", percent(Cost::Store))
            }
            Limit::Throttling => format!(
                "The store throttles, parts wait for their turn {}: a higher quota would move it, and larger parts \
                 (--part-size) ask less often.",
                percent(Cost::Throttled)
            ),
            Limit::Tls if self.is_busy() => format!(
                "Encryption is the limit, {:.0} % of what {:.1} of {} busy cores do: {}.",
                self.tls_of_cpu() * 100.0,
                self.cpu_share() * self.usable_cores() as f64,
                self.cores,
                self.more_cores()
            ),
            Limit::Tls => format!("Encryption is the limit, {}: {}.", percent(Cost::Tls), self.more_cores()),
            Limit::Rate => format!(
                "Your own --max-rate is the limit, it holds parts back {}: a higher one would move it.",
                percent(Cost::Rate)
            ),
            Limit::CpuShare => format!(
                "Your own --max-cpu is the limit, it holds parts back {}: a higher one would move it.",
                percent(Cost::CpuShare)
            ),
            Limit::Cpu => format!(
                "The processor is the limit, {:.1} of {} cores are busy: {}.",
                self.cpu_share() * self.usable_cores() as f64,
                self.cores,
                self.more_cores()
            ),
            Limit::Connecting => format!(
                "Connecting is the limit, {}: larger parts (--part-size) or fewer in flight (--parallel, now {}) need \
                 fewer connections.",
                percent(Cost::Connection),
                self.in_flight
            ),
            Limit::Failures => format!(
                "Failures are the limit, parts wait for another try {}: -v shows what failed.",
                percent(Cost::Retry)
            ),
        }
    }

    /// What lets more parts wait at a time.
    fn more_at_a_time(&self, would: &str) -> String {
        let in_flight = self.in_flight;
        match self.parallel {
            _ if self.parts <= in_flight => {
                format!("all parts are in flight at once, so smaller ones (--part-size) would {would}")
            }
            Parallel::Parts(_) => format!("more parts in flight (--parallel, now {in_flight}) would {would}"),
            Parallel::Auto => {
                format!("larger parts (--part-size) would {would}, and so might --parallel above {in_flight}")
            }
        }
    }

    fn more_cores(&self) -> String {
        let (threads, cores, in_flight) = (self.threads, self.cores, self.in_flight);
        if !self.is_busy() && (in_flight as usize) < self.usable_cores() {
            format!("more parts in flight (--parallel, now {in_flight}) would use more of them")
        } else if threads < cores {
            format!("more --threads (now {threads}) would move it")
        } else {
            "only more or faster cores would move it, or less other work for them".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARALLEL: u32 = 4;

    /// Ten seconds of four parts, of which so many hundredths went there and the rest elsewhere.
    fn figures(percents: &[(Cost, u32)]) -> Figures {
        let mut costs = Costs::default();
        for (cost, percent) in percents {
            costs.add(*cost, Duration::from_millis(400) * *percent);
        }
        Figures {
            costs,
            elapsed: Duration::from_secs(10),
            cpu: Duration::from_secs(4),
            cores: 4,
            threads: 4,
            parallel: Parallel::Parts(PARALLEL),
            in_flight: PARALLEL,
            parts: 100,
        }
    }

    fn says(figures: &Figures, limit: Limit, words: &[&str]) {
        assert_eq!(figures.limit(), limit, "{figures:?}");
        let sentence = figures.sentence();
        assert!(words.iter().all(|word| sentence.contains(word)), "{sentence}");
        assert!(sentence.ends_with('.') && !sentence.contains('\n'), "{sentence}");
    }

    #[test]
    fn what_parts_wait_for_most_is_the_limit_and_has_its_knob() {
        for (cost, limit, knob) in [
            (Cost::Disk, Limit::Disk, "--reader"),
            (Cost::Buffer, Limit::Buffers, "--memory"),
            (Cost::Socket, Limit::Connections, "--parallel, now 4"),
            (Cost::Store, Limit::Store, "--parallel, now 4"),
            (Cost::Throttled, Limit::Throttling, "quota"),
            (Cost::Tls, Limit::Tls, "cores"),
            (Cost::Rate, Limit::Rate, "--max-rate"),
            (Cost::CpuShare, Limit::CpuShare, "--max-cpu"),
            (Cost::Connection, Limit::Connecting, "--part-size"),
            (Cost::Retry, Limit::Failures, "-v"),
        ] {
            let rest = if cost == Cost::Socket { Cost::Disk } else { Cost::Socket };
            let won = figures(&[(cost, 51), (rest, 49)]);
            says(&won, limit, &[knob]);
            assert_ne!(figures(&[(cost, 49), (rest, 51)]).limit(), limit);
        }
        says(&figures(&[(Cost::Store, 62), (Cost::Socket, 38)]), Limit::Store, &["The store thinks 62 % of the time"]);
        says(&figures(&[]), Limit::Nothing, &["Nothing was sent"]);
    }

    #[test]
    fn the_longest_of_many_waits_counts_even_if_it_is_not_half() {
        says(&figures(&[(Cost::Disk, 30), (Cost::Store, 36), (Cost::Socket, 34)]), Limit::Store, &["36 %"]);
    }

    #[test]
    fn a_busy_processor_is_the_limit_whatever_waits_for_it() {
        let waits = [(Cost::Socket, 60), (Cost::Checksum, 25), (Cost::Other, 15)];
        let busy = |cpu_ms| Figures { cpu: Duration::from_millis(cpu_ms), ..figures(&waits) };
        says(&busy(34_000), Limit::Cpu, &["3.4 of 4 cores", "faster cores"]);
        assert_eq!(busy(33_900).limit(), Limit::Connections);
        let one_thread = Figures { threads: 1, cpu: Duration::from_millis(9_000), ..figures(&waits) };
        says(&one_thread, Limit::Cpu, &["0.9 of 4 cores", "--threads (now 1)"]);
    }

    #[test]
    fn a_processor_that_is_busy_encrypting_is_limited_by_tls() {
        let busy = |tls| Figures {
            cpu: Duration::from_secs(38),
            ..figures(&[(Cost::Tls, tls), (Cost::Checksum, 30), (Cost::Socket, 70 - tls)])
        };
        says(&busy(20), Limit::Tls, &["21 % of what 3.8 of 4 busy cores do", "cores"]);
        assert_eq!(busy(18).limit(), Limit::Cpu);
    }

    #[test]
    fn parts_that_work_for_themselves_on_few_cores_ask_for_more_in_flight() {
        let mut alone = figures(&[(Cost::Checksum, 30), (Cost::Other, 30), (Cost::Socket, 40)]);
        (alone.in_flight, alone.parallel) = (1, Parallel::Parts(1));
        says(&alone, Limit::Cpu, &["--parallel, now 1"]);
        let encrypts = Figures { costs: figures(&[(Cost::Tls, 60), (Cost::Socket, 40)]).costs, ..alone };
        says(&encrypts, Limit::Tls, &["--parallel, now 1"]);
    }

    #[test]
    fn buffers_that_wait_for_the_disk_or_our_own_limit_are_not_to_blame() {
        let behind = |cost| figures(&[(Cost::Buffer, 60), (cost, 21), (Cost::Store, 19)]).limit();
        assert_eq!(behind(Cost::Disk), Limit::Disk);
        assert_eq!(behind(Cost::Rate), Limit::Rate);
        assert_eq!(behind(Cost::CpuShare), Limit::CpuShare);
        assert_eq!(behind(Cost::Socket), Limit::Buffers);
        let less = figures(&[(Cost::Buffer, 60), (Cost::Disk, 19), (Cost::Store, 21)]);
        assert_eq!(less.limit(), Limit::Buffers);
    }

    #[test]
    fn a_number_that_was_tuned_is_not_asked_to_grow() {
        let tuned = |cost| Figures { parallel: Parallel::Auto, ..figures(&[(cost, 100)]) };
        says(&tuned(Cost::Socket), Limit::Line, &["more than 4", "--endpoint"]);
        says(&tuned(Cost::Store), Limit::Store, &["larger parts (--part-size)"]);
    }

    #[test]
    fn parts_that_are_all_in_flight_have_to_be_smaller_to_be_more() {
        for parallel in [Parallel::Auto, Parallel::Parts(PARALLEL)] {
            let few = |cost| Figures { parallel, parts: PARALLEL, ..figures(&[(cost, 100)]) };
            says(&few(Cost::Socket), Limit::Connections, &["smaller ones (--part-size)"]);
            says(&few(Cost::Store), Limit::Store, &["smaller ones (--part-size)"]);
        }
    }

    #[test]
    fn the_times_are_written_in_seconds_by_name() {
        let mut costs = Costs::default();
        Cost::ALL.into_iter().for_each(|cost| costs.add(cost, Duration::from_millis(1500)));
        let value = serde_json::to_value(costs).unwrap();
        let fields = value.as_object().unwrap();
        assert_eq!(fields.len(), Cost::ALL.len());
        assert!(fields.values().all(|seconds| seconds == 1.5), "{value}");
    }
}
