//! The search for the setting that carries most. No input or output: what a setting carries is asked of a function, so
//! that the search can be tried on surfaces that are known.
//!
//! 1. **Climb.** From a start, one axis at a time: the point and its neighbours are raced, the best goes on, until no
//!    neighbour is better; reader and chunks, which haul has by itself, are left only for measurably better ones. Each
//!    step is twice the one before, so a dozen settings cross the whole space.
//! 2. **Final.** The best of all that were tried, and haul without a profile, are raced once more with more samples.
//! 3. **Choice.** Of those that are as good as the best, the one that costs least.
//!
//! A race samples its settings in turn, in an order that is drawn anew each round, so that a drift of the network harms all
//! alike. One whose confidence interval lies below that of the best drops out. The race ends when one is left, when all
//! intervals are narrow, or when enough samples were taken. The first sample of a setting opens its connections and does
//! not count. An upload that takes much longer than the best is cut off; a setting whose uploads were cut off twice is out.

use std::cmp::Reverse;
use std::time::Duration;

use haul::model::settings::ReaderKind;
use serde::{Deserialize, Serialize};

use super::statistics::Estimate;

/// Samples of a setting in a race: from so many on it may end, after so many it ends in any case.
const CLIMB: (usize, usize) = (3, 5);
const FINAL: (usize, usize) = (5, 12);
/// How many settings are in the final, besides haul without a profile.
const FINALISTS: usize = 4;
/// An interval of this half width, as a share of the mean, is narrow.
const NARROW: f64 = 0.025;
/// How much less than the best, as a share of it, still counts as equal if the intervals say so too.
const EQUAL: f64 = 0.03;
/// An upload is cut off when it takes so many times as long as those of the best setting; the first one, which opens
/// connections, may take longer.
const PATIENCE: f64 = 2.0;
const FIRST_PATIENCE: f64 = 4.0;
/// What may be spent before the final, as a share of the budget.
const CLIMB_SHARE: f64 = 0.7;

/// How a file is sent. What is `None` is left to haul.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader: Option<ReaderKind>,
    /// Parts in flight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_bytes: Option<u32>,
    pub threads: u32,
}

impl Setting {
    /// haul without a profile.
    pub fn automatic(threads: u32) -> Self {
        Self { reader: None, parallel: None, part_bytes: None, chunk_bytes: None, threads }
    }

    /// The smaller, the cheaper. haul without a profile comes first, since it goes with the line as that changes. Then
    /// parts in flight: each has a connection and buffers. A reader that is left to haul suits cached files and others,
    /// and so do its chunks; larger parts are fewer requests.
    fn cost(self) -> impl Ord {
        let own = (self.reader.is_some(), self.chunk_bytes.is_some());
        (self.parallel, self.threads, own, Reverse(self.part_bytes))
    }
}

/// The settings that may be tried; the lists of numbers ascend, and what a reader takes by itself comes after all chunks.
#[derive(Debug, Clone)]
pub struct Space {
    pub readers: Vec<Option<ReaderKind>>,
    pub parallel: Vec<u32>,
    pub part_bytes: Vec<u64>,
    pub chunk_bytes: Vec<Option<u32>>,
    pub threads: Vec<u32>,
    /// Length of the uploads that are the samples.
    pub sample_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
enum Axis {
    Parallel,
    PartBytes,
    Reader,
    Chunk,
    Threads,
}

impl Axis {
    /// Whether haul has a value of its own, which is left only for one that is measurably better.
    fn has_own_value(self) -> bool {
        matches!(self, Self::Reader | Self::Chunk)
    }
}

/// Parts in flight and their length depend on one another, so they are looked at again.
const AXES: [Axis; 7] =
    [Axis::Parallel, Axis::PartBytes, Axis::Reader, Axis::Chunk, Axis::Threads, Axis::Parallel, Axis::PartBytes];

impl Space {
    /// A setting with at most so many parts in flight, of a length that gives each of them several in one upload.
    pub fn start(&self, parallel: u32, threads: u32) -> Setting {
        let shortest = self.part_bytes.first().copied().unwrap_or(1);
        let fits = |n: &&u32| **n <= parallel && u64::from(**n) * shortest <= self.sample_bytes;
        let parallel = self.parallel.iter().rev().find(fits).or(self.parallel.first()).copied().unwrap_or(1);
        let parts = self.part_bytes.iter().rev().find(|bytes| **bytes * u64::from(parallel) * 4 <= self.sample_bytes);
        let fewer = self.threads.iter().rev().find(|n| **n <= threads).or(self.threads.first());
        Setting {
            reader: self.readers.first().copied().flatten(),
            parallel: Some(parallel),
            part_bytes: Some(parts.copied().unwrap_or(shortest)),
            chunk_bytes: None,
            threads: fewer.copied().unwrap_or(threads),
        }
    }

    /// The setting with parts so short that one upload keeps all of them in flight: else fewer would be measured.
    fn fitted(&self, at: Setting) -> Option<Setting> {
        let longest = self.sample_bytes / u64::from(at.parallel?);
        let part_bytes = self.part_bytes.iter().rev().find(|bytes| **bytes <= longest.min(at.part_bytes.unwrap_or(0)));
        part_bytes.map(|bytes| Setting { part_bytes: Some(*bytes), ..at })
    }

    fn neighbours(&self, at: Setting, axis: Axis) -> Vec<Setting> {
        let near: Vec<Setting> = match axis {
            Axis::Parallel => {
                beside(&self.parallel, at.parallel).map(|n| Setting { parallel: Some(n), ..at }).collect()
            }
            Axis::PartBytes => {
                let near = beside(&self.part_bytes, at.part_bytes).map(|n| Setting { part_bytes: Some(n), ..at });
                near.filter(|near| self.fitted(*near) == Some(*near)).collect()
            }
            Axis::Reader => self.readers.iter().map(|reader| Setting { reader: *reader, ..at }).collect(),
            Axis::Chunk => {
                beside(&self.chunk_bytes, Some(at.chunk_bytes)).map(|n| Setting { chunk_bytes: n, ..at }).collect()
            }
            Axis::Threads => beside(&self.threads, Some(at.threads)).map(|n| Setting { threads: n, ..at }).collect(),
        };
        near.into_iter().filter_map(|near| self.fitted(near)).filter(|near| *near != at).collect()
    }
}

/// The values before and behind `at`.
fn beside<T: Copy + PartialEq>(list: &[T], at: Option<T>) -> impl Iterator<Item = T> {
    let at = at.and_then(|at| list.iter().position(|value| *value == at));
    let near = move |i: Option<usize>| list.get(i?).copied();
    [near(at.and_then(|at| at.checked_sub(1))), near(at.map(|at| at + 1))].into_iter().flatten()
}

/// What a search may spend, or has spent.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Budget {
    /// That are sent.
    pub bytes: u64,
    pub time: Duration,
}

impl Budget {
    fn share(self, share: f64) -> Self {
        Self { bytes: (self.bytes as f64 * share) as u64, time: self.time.mul_f64(share) }
    }
}

/// One upload that is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    pub setting: Setting,
    /// It is cut off then.
    pub limit: Duration,
}

/// What was seen of one upload.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// While parts were sent; up to the end, if it was cut off.
    pub bytes_per_second: f64,
    /// What it cost.
    pub spent: Budget,
    pub cut: bool,
}

/// A setting and its samples, in bytes per second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    #[serde(flatten)]
    pub setting: Setting,
    /// The first upload, which does not count; absent if none came to an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<f64>,
    /// In the order in which they were taken.
    pub samples: Vec<f64>,
    /// How many of all were cut off because others are much faster.
    #[serde(default)]
    pub cut: u32,
}

impl Tried {
    pub fn estimate(&self) -> Option<Estimate> {
        Estimate::of(&self.samples)
    }

    /// So much slower than others that it was given up.
    pub fn is_out(&self) -> bool {
        self.cut >= 2
    }

    fn mean(&self) -> f64 {
        if self.is_out() { 0.0 } else { self.estimate().map_or(0.0, |found| found.mean) }
    }
}

/// Why a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// All axes were climbed, and the final was decided or more samples would not decide it.
    Decided,
    OutOfBytes,
    OutOfTime,
}

/// What a search found.
#[derive(Debug)]
pub struct Found {
    /// All that was tried, in the order in which it was begun.
    pub tried: Vec<Tried>,
    /// Which of them is to be used, and which is the best of the others; `None` if the budget was too small for one sample.
    pub chosen: Option<usize>,
    pub runner_up: Option<usize>,
    pub ended: Ended,
}

struct Search<'a, M> {
    space: &'a Space,
    tried: Vec<Tried>,
    allowed: Budget,
    spent: Budget,
    /// Which budget did not allow an upload that was wanted.
    short: Option<Ended>,
    grace: Duration,
    rng: fastrand::Rng,
    measure: M,
}

/// - `start`: a setting of the space.
/// - `budget`: never exceeded, as long as `measure` keeps to the limit of each trial.
/// - `grace`: what an upload may take longer than the patience says, for round trips.
/// - `seed`: the same one draws the same orders.
///
/// # Errors
/// The first error of `measure`.
pub async fn search<E>(
    space: &Space,
    start: Setting,
    budget: Budget,
    grace: Duration,
    seed: u64,
    measure: impl AsyncFnMut(Trial) -> Result<Seen, E>,
) -> Result<Found, E> {
    let rng = fastrand::Rng::with_seed(seed);
    let (allowed, spent) = (budget.share(CLIMB_SHARE), Budget::default());
    let mut search = Search { space, tried: Vec::new(), allowed, spent, short: None, grace, rng, measure };
    search.climb(start).await?;
    search.allowed = budget;
    search.finish(Setting::automatic(start.threads)).await?;
    Ok(search.found())
}

impl<E, M: AsyncFnMut(Trial) -> Result<Seen, E>> Search<'_, M> {
    async fn climb(&mut self, start: Setting) -> Result<(), E> {
        let mut at = self.index(start);
        for axis in AXES {
            loop {
                let near = self.space.neighbours(self.tried[at].setting, axis);
                let mut rivals: Vec<_> = near.into_iter().map(|near| self.index(near)).collect();
                rivals.push(at);
                self.race(&rivals, CLIMB).await?;
                let best = self.best_of(&rivals);
                if best == at || (axis.has_own_value() && !is_worse(&self.tried[at], &self.tried[best])) {
                    break;
                }
                at = best;
            }
        }
        Ok(())
    }

    async fn finish(&mut self, automatic: Setting) -> Result<(), E> {
        let mut rivals: Vec<_> = (0..self.tried.len()).filter(|i| self.tried[*i].mean() > 0.0).collect();
        rivals.sort_by(|a, b| self.tried[*b].mean().total_cmp(&self.tried[*a].mean()));
        rivals.truncate(FINALISTS);
        rivals.push(self.index(automatic));
        self.race(&rivals, FINAL).await
    }

    /// Samples these settings until one is left or more samples would not tell them apart.
    async fn race(&mut self, rivals: &[usize], (least, most): (usize, usize)) -> Result<(), E> {
        let mut alive = rivals.to_vec();
        loop {
            let best = self.best_of(&alive);
            alive.retain(|i| *i == best || !is_worse(&self.tried[*i], &self.tried[best]));
            let mut wanted: Vec<_> = alive.iter().copied().filter(|i| self.wants_more(*i, least, most)).collect();
            if wanted.is_empty() || (alive.len() == 1 && self.tried[best].samples.len() >= least) {
                return Ok(());
            }
            self.rng.shuffle(&mut wanted);
            for index in wanted {
                if !self.sample(index).await? {
                    return Ok(());
                }
            }
        }
    }

    fn wants_more(&self, index: usize, least: usize, most: usize) -> bool {
        let tried = &self.tried[index];
        let narrow = tried.estimate().is_some_and(|found| found.relative() <= NARROW);
        !tried.is_out() && tried.samples.len() < if narrow { least } else { most }
    }

    /// Takes a sample, after a first upload that does not count; says no if the budget does not allow it.
    async fn sample(&mut self, index: usize) -> Result<bool, E> {
        if self.tried[index].warm_up.is_none() {
            let Some(first) = self.upload(index, FIRST_PATIENCE).await? else { return Ok(false) };
            self.tried[index].warm_up = Some(first);
        }
        let Some(rate) = self.upload(index, PATIENCE).await? else { return Ok(false) };
        self.tried[index].samples.push(rate);
        Ok(true)
    }

    /// What one upload carries, or `None` if the budget does not allow it.
    async fn upload(&mut self, index: usize, patience: f64) -> Result<Option<f64>, E> {
        let left = self.allowed.time.saturating_sub(self.spent.time);
        if left.is_zero() {
            self.short = Some(Ended::OutOfTime);
            return Ok(None);
        }
        if self.allowed.bytes.saturating_sub(self.spent.bytes) < self.space.sample_bytes {
            self.short = Some(Ended::OutOfBytes);
            return Ok(None);
        }
        let best = self.tried.iter().map(Tried::mean).fold(0.0, f64::max);
        let patience = Duration::try_from_secs_f64(patience * self.space.sample_bytes as f64 / best);
        let patience = patience.unwrap_or(Duration::MAX).saturating_add(self.grace);
        let trial = Trial { setting: self.tried[index].setting, limit: patience.min(left) };
        let seen = (self.measure)(trial).await?;
        self.spent.bytes += seen.spent.bytes;
        self.spent.time += seen.spent.time;
        // What the end of the budget cut off says nothing of the setting.
        if seen.cut && patience > left {
            self.short = Some(Ended::OutOfTime);
            return Ok(None);
        }
        self.tried[index].cut += u32::from(seen.cut);
        Ok(Some(seen.bytes_per_second))
    }

    fn index(&mut self, setting: Setting) -> usize {
        self.tried.iter().position(|tried| tried.setting == setting).unwrap_or_else(|| {
            self.tried.push(Tried { setting, warm_up: None, samples: Vec::new(), cut: 0 });
            self.tried.len() - 1
        })
    }

    /// The one that carries most; the last of those that carry the same, which where nothing was measured is where the
    /// climb stands.
    fn best_of(&self, rivals: &[usize]) -> usize {
        let by_mean = |a: &&usize, b: &&usize| self.tried[**a].mean().total_cmp(&self.tried[**b].mean());
        *rivals.iter().max_by(by_mean).expect("a race has rivals")
    }

    fn found(self) -> Found {
        let ended = self.short.unwrap_or(Ended::Decided);
        let mut tried = self.tried;
        tried.retain(|tried| tried.warm_up.is_some());
        let (chosen, runner_up) = choose(&tried);
        Found { tried, chosen, runner_up, ended }
    }
}

/// Whether it is out, or its whole interval lies below that of the best.
fn is_worse(tried: &Tried, best: &Tried) -> bool {
    let apart = |(low, high): (Estimate, Estimate)| low.is_below(&high);
    tried.is_out() || tried.estimate().zip(best.estimate()).is_some_and(apart)
}

/// The cheapest of those that are as good as the best, and the best of the others.
fn choose(tried: &[Tried]) -> (Option<usize>, Option<usize>) {
    let good: Vec<_> = (0..tried.len()).filter(|i| tried[*i].mean() > 0.0).collect();
    // A mean of few samples is easily too high.
    let enough: Vec<_> = good.iter().copied().filter(|i| tried[*i].samples.len() >= CLIMB.0).collect();
    let rivals = if enough.is_empty() { good } else { enough };
    let by_mean = |a: &usize, b: &usize| tried[*a].mean().total_cmp(&tried[*b].mean());
    let Some(best) = rivals.iter().copied().max_by(by_mean) else { return (None, None) };
    let equal =
        |i: &usize| tried[*i].mean() >= tried[best].mean() * (1.0 - EQUAL) && !is_worse(&tried[*i], &tried[best]);
    let equal = rivals.iter().copied().filter(equal);
    let chosen = equal.min_by_key(|i| tried[*i].setting.cost());
    let runner_up = rivals.iter().copied().filter(|i| Some(*i) != chosen).max_by(by_mean);
    (chosen, runner_up)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// A line and a machine: what a setting carries, in bytes per second, and how much single uploads differ from that.
    struct Surface {
        connection: f64,
        total: f64,
        round_trip: f64,
        noise: f64,
        automatic: f64,
        /// What is left where the chunks are those that a reader takes by itself.
        own_chunks: f64,
    }

    const LONG: Surface =
        Surface { connection: 12e6, total: 250e6, round_trip: 0.06, noise: 0.04, automatic: 200e6, own_chunks: 1.0 };
    const NEAR: Surface =
        Surface { connection: 900e6, total: 1250e6, round_trip: 5e-4, noise: 0.04, automatic: 1e9, own_chunks: 1.0 };

    impl Surface {
        fn carries(&self, at: Setting) -> f64 {
            let (Some(parallel), Some(part_bytes)) = (at.parallel, at.part_bytes) else { return self.automatic };
            // A part waits a round trip for its answer.
            let seconds = part_bytes as f64 / self.connection + self.round_trip;
            let line = (f64::from(parallel) * part_bytes as f64 / seconds).min(self.total);
            let reader = if at.reader == Some(ReaderKind::Pread) { 0.8 } else { 1.0 };
            // More threads than cores are in one another's way; so are too many connections.
            let threads = if at.threads == 1 { 0.9 } else { 1.0 };
            let chunks = if at.chunk_bytes.is_none() { self.own_chunks } else { 1.0 };
            line * reader * chunks * threads * (1.0 - f64::from(parallel) / 4000.0)
        }

        fn best(&self, space: &Space) -> f64 {
            let all = space.readers.iter().flat_map(|reader| {
                space.parallel.iter().flat_map(move |n| {
                    let parts = space.part_bytes.iter().filter(|bytes| **bytes * u64::from(*n) <= space.sample_bytes);
                    parts.flat_map(move |bytes| {
                        let setting = |threads: &u32| Setting {
                            reader: *reader,
                            parallel: Some(*n),
                            part_bytes: Some(*bytes),
                            chunk_bytes: Some(1 << 20),
                            threads: *threads,
                        };
                        space.threads.iter().map(setting)
                    })
                })
            });
            all.map(|setting| self.carries(setting)).fold(0.0, f64::max)
        }
    }

    fn space() -> Space {
        Space {
            readers: vec![None, Some(ReaderKind::Pread)],
            parallel: (0..8).map(|i| 1 << i).collect(),
            part_bytes: (0..8).map(|i| (MIB / 4) << i).collect(),
            chunk_bytes: vec![Some(512 << 10), Some(1 << 20), None],
            threads: vec![1, 2, 4],
            sample_bytes: 128 * MIB,
        }
    }

    const BUDGET: Budget = Budget { bytes: 16 << 30, time: Duration::from_secs(240) };

    struct Outcome {
        found: Found,
        spent: Budget,
        uploads: usize,
    }

    /// Searches a surface as if time passed.
    fn searched(surface: &Surface, space: &Space, budget: Budget, seed: u64) -> Outcome {
        // The noise repeats after 1,000 seeds, the order of the samples does not.
        let mut rng = fastrand::Rng::with_seed(seed % 1000);
        let (mut spent, mut uploads) = (Budget::default(), 0);
        let measure = async |trial: Trial| {
            let noise = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
            let rate = surface.carries(trial.setting) * (1.0 + surface.noise * noise);
            let whole = Duration::from_secs_f64(space.sample_bytes as f64 / rate);
            let time = whole.min(trial.limit);
            let cost = Budget { bytes: (rate * time.as_secs_f64()) as u64, time };
            spent = Budget { bytes: spent.bytes + cost.bytes, time: spent.time + cost.time };
            uploads += 1;
            Ok::<_, Infallible>(Seen { bytes_per_second: rate, spent: cost, cut: whole > trial.limit })
        };
        let start = space.start(8, 2);
        let Ok(found) =
            futures_executor::block_on(search(space, start, budget, Duration::from_millis(100), seed, measure));
        Outcome { found, spent, uploads }
    }

    fn chosen(found: &Found) -> &Tried {
        &found.tried[found.chosen.unwrap()]
    }

    #[test]
    fn what_is_chosen_carries_within_5_percent_of_the_best_there_is() {
        for (name, surface) in [("long", LONG), ("near", NEAR)] {
            let best = surface.best(&space());
            let good = |seed: &u64| {
                let found = searched(&surface, &space(), BUDGET, *seed).found;
                surface.carries(chosen(&found).setting) >= 0.95 * best
            };
            let good = (0..200).filter(good).count();
            assert!(good >= 195, "{name}: {good} of 200 searches");
        }
    }

    #[test]
    fn a_twentieth_of_the_space_is_enough() {
        let space = space();
        let all = space.readers.len() * space.parallel.len() * space.part_bytes.len() * space.threads.len();
        let found = searched(&LONG, &space, BUDGET, 1).found;
        assert!(found.tried.len() * 20 <= all, "{} of {all} settings were tried", found.tried.len());
        assert_eq!(found.ended, Ended::Decided);
    }

    #[test]
    fn neither_budget_is_ever_exceeded() {
        for seed in 0..50 {
            for budget in [
                BUDGET,
                Budget { bytes: 3 << 30, ..BUDGET },
                Budget { bytes: 129 * MIB, ..BUDGET },
                Budget { bytes: 0, ..BUDGET },
                Budget { time: Duration::from_secs(9), ..BUDGET },
                Budget { time: Duration::from_millis(300), ..BUDGET },
                Budget { time: Duration::ZERO, ..BUDGET },
            ] {
                let Outcome { found, spent, .. } = searched(&LONG, &space(), budget, seed);
                assert!(spent.bytes <= budget.bytes && spent.time <= budget.time, "{spent:?} of {budget:?}");
                let whole = found.chosen.is_some();
                assert!(whole || budget.bytes < 256 * MIB || budget.time < Duration::from_secs(5), "{budget:?}");
                let why = if budget.bytes < BUDGET.bytes { Ended::OutOfBytes } else { Ended::OutOfTime };
                assert!(whole || found.ended == why, "{budget:?}: {:?}", found.ended);
            }
        }
    }

    /// The same line, once with uploads that hardly differ and once with some that do.
    #[test]
    fn a_search_whose_intervals_are_soon_apart_ends_sooner() {
        let uploads = |noise| searched(&Surface { noise, ..LONG }, &space(), BUDGET, 1).uploads;
        let (quiet, noisy) = (uploads(0.001), uploads(0.1));
        assert!(quiet * 3 < noisy * 2, "{quiet} and {noisy} uploads");
    }

    /// From 32 connections on the line is full: more of them are no better, and cost more.
    #[test]
    fn of_equals_the_one_with_fewer_parts_in_flight_is_taken() {
        let surface =
            Surface { connection: 10e6, total: 250e6, round_trip: 0.0, noise: 0.02, automatic: 200e6, ..LONG };
        for seed in 0..50 {
            let Outcome { found, .. } = searched(&surface, &space(), BUDGET, seed);
            let wide = found.tried.iter().filter(|tried| tried.setting.parallel > Some(32)).count();
            assert!(wide > 0, "more were tried");
            assert_eq!(chosen(&found).setting.parallel, Some(32), "seed {seed}");
            assert_eq!(chosen(&found).setting.reader, None, "seed {seed}");
        }
    }

    #[test]
    fn within_the_interval_of_the_best_the_cheapest_is_chosen_and_outside_of_it_is_not() {
        let tried = |parallel, samples: &[f64]| Tried {
            setting: Setting { parallel: Some(parallel), part_bytes: Some(MIB), ..Setting::automatic(2) },
            warm_up: Some(1.0),
            samples: samples.to_vec(),
            cut: 0,
        };
        let best = tried(64, &[98.0, 100.0, 102.0]);
        let equal = tried(8, &[98.0, 98.0, 98.0]);
        let worse = tried(4, &[96.0, 96.0, 96.0]);
        let few = tried(1, &[500.0]);
        let given_up = Tried { cut: 2, ..tried(2, &[300.0, 300.0, 300.0]) };
        let all = [best, equal, worse, few, given_up];
        assert_eq!(choose(&all), (Some(1), Some(0)));
        assert_eq!(choose(&all[3..4]), (Some(0), None), "where there is no more, one sample has to do");
        assert_eq!(choose(&[]), (None, None));
    }

    #[test]
    fn haul_without_a_profile_is_chosen_unless_a_setting_is_better() {
        let choice = |automatic| {
            let found = searched(&Surface { automatic, ..LONG }, &space(), BUDGET, 3).found;
            chosen(&found).setting
        };
        let best = LONG.best(&space());
        assert_eq!(choice(1.5 * best), Setting::automatic(2));
        assert_eq!(choice(best), Setting::automatic(2), "of equals the one that goes with the line");
        assert!(choice(0.9 * best).parallel.is_some());
    }

    #[test]
    fn chunks_are_searched_where_they_matter_and_else_left_to_the_reader() {
        let choice = |own_chunks| {
            let found = searched(&Surface { own_chunks, ..NEAR }, &space(), BUDGET, 5).found;
            chosen(&found).setting.chunk_bytes
        };
        assert!(choice(0.8).is_some());
        assert_eq!(choice(1.0), None);
    }

    /// A setting that carries a twentieth costs a few uploads that are cut off, not twenty times the time.
    #[test]
    fn a_setting_that_is_much_slower_is_given_up_early() {
        let space = Space { parallel: vec![1, 20], ..space() };
        let found = searched(&LONG, &space, BUDGET, 1).found;
        let slow = found.tried.iter().find(|tried| tried.setting.parallel == Some(1)).unwrap();
        assert!(slow.is_out() && slow.samples.len() <= 2, "{slow:?}");
    }

    #[test]
    fn the_same_seed_makes_the_same_search() {
        let tried = |seed| searched(&LONG, &space(), BUDGET, seed).found.tried;
        assert_eq!(tried(7), tried(7));
        assert_ne!(tried(7), tried(1007), "another order meets another noise");
    }

    #[test]
    fn every_setting_that_is_tried_keeps_all_its_parts_in_flight() {
        let small = Space { sample_bytes: 4 * MIB, ..space() };
        for tried in searched(&NEAR, &small, BUDGET, 1).found.tried {
            let Setting { parallel, part_bytes, .. } = tried.setting;
            let in_flight = u64::from(parallel.unwrap_or(0)) * part_bytes.unwrap_or(0);
            assert!(in_flight <= small.sample_bytes, "{:?}", tried.setting);
        }
        assert_eq!(
            small.start(64, 9),
            Setting { parallel: Some(16), part_bytes: Some(MIB / 4), ..Setting::automatic(4) }
        );
    }
}
