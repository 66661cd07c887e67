//! The whole engine in a simulation: a store in memory, a disk that loses power, a clock that only jumps, and a seed.
//!
//! A *transfer* is one file that is put again and again, by processes that die at random points and meet random faults,
//! until one of them says that it is done. Between two of them the file may change, or just its identity, with or without a
//! byte that changed unseen. After each the judges of [`world`] are asked whether a promise was broken. The
//! seed decides everything, so a seed is a complete report of a failure: `HAUL_SEED=N cargo test simulated` repeats it.
//!
//! | file | subject |
//! |---|---|
//! | `world.rs` | what outlives a process, and the judges |
//! | `transport.rs` | the store and its faults |
//! | `storage.rs` | the disk, the read-along of the log, what a crash leaves |
//! | `process.rs` | one run of the engine, until its end or its death |
//! | `plant.rs` | the bugs that the judges are shown |

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use plant::Plant;
use process::{Ended, Machine};
use world::{LOG, Shared};

use crate::checkpoint::wal::Storage;

mod plant;
mod process;
mod storage;
mod transport;
mod world;

/// Transfers in a run of the tests, unless `HAUL_TRANSFERS` says otherwise.
const TRANSFERS: u64 = 2_000;
/// Processes of one transfer that meet faults and crashes; those behind them meet none.
const TROUBLED: u32 = 6;
/// Processes after which a transfer that is not done never will be.
const PROCESSES_MAX: u32 = TROUBLED + 3;
/// Seeds that once showed a bug, be it one of the simulation.
const KEPT: &[u64] = &[92, 4471, 12294, 26659];

/// Runs one transfer to its end.
///
/// # Errors
/// The promise that was broken.
fn transfer(machine: &Machine, seed: u64, plant: Plant) -> Result<u32, String> {
    fastrand::seed(seed);
    let world = Shared::new(seed, plant);
    let mut file = machine.some_file(&mut world.lock());
    for process in 0..PROCESSES_MAX {
        prepare_process(&world, process < TROUBLED);
        if process > 0 && process < TROUBLED {
            let mut world = world.lock();
            match world.random.u32(0..1000) {
                0..50 => file = machine.other_file(&mut world, &file),
                50..200 => file = machine.moved_file(&mut world, &file),
                _ => {}
            }
        }
        let ended = machine.run(&world, &file);
        let mut world = world.lock();
        if let Ended::Died = ended {
            let power_lost = world.random.bool();
            world.restart(power_lost);
        } else if let Some(id) = world.told.take() {
            world.break_promise(format!("{id} was never made durable"));
        }
        if let Ended::Done { crc64 } = ended {
            world.judge_success(crc64);
        }
        world.judge_rest();
        if !world.broken.is_empty() {
            return Err(world.broken.join("; "));
        }
        if let Ended::Done { .. } = ended {
            return Ok(process + 1);
        }
    }
    Err(format!("{PROCESSES_MAX} processes did not finish it"))
}

fn prepare_process(world: &Shared, troubled: bool) {
    let mut world = world.lock();
    world.faults = if troubled { [0, 20, 100, 300][world.random.usize(0..4)] } else { 0 };
    let steps = world.random.u32(0..60);
    world.steps_left = (troubled && world.chance(700)).then_some(steps);
}

impl world::World {
    /// What must hold when an upload is said to be done.
    fn judge_success(&mut self, crc64: u64) {
        let left = self.disk.clone().read(LOG).expect("the power is on");
        if self.object.as_ref() != Some(&self.content) {
            self.break_promise("a success was reported for an object that is not the file");
        } else if world::marks(&self.content).1 != crc64 {
            self.break_promise("a success was reported with a checksum that is not that of the file");
        } else if left.is_some() {
            self.break_promise("the checkpoint is still there after a success");
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn hold(machine: &Machine, seed: u64) -> u32 {
    transfer(machine, seed, Plant::Nothing)
        .unwrap_or_else(|broken| panic!("{broken}; HAUL_SEED={seed} repeats the transfer"))
}

#[test]
fn simulated_transfers_keep_every_promise() {
    if let Some(seed) = setting("HAUL_SEED") {
        hold(&Machine::new(), seed);
        return;
    }
    let all = setting("HAUL_TRANSFERS").unwrap_or(TRANSFERS);
    let (next, processes) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(|| {
                let machine = Machine::new();
                while let Some(seed) = Some(next.fetch_add(1, Relaxed)).filter(|seed| *seed < all) {
                    processes.fetch_add(hold(&machine, seed).into(), Relaxed);
                }
            });
        }
    });
    let processes = processes.into_inner();
    println!("{all} transfers, {processes} processes");
    assert!(processes > all * 3 / 2, "only {processes} processes: few of them died");
}

#[test]
fn simulated_transfers_that_once_failed_keep_every_promise() {
    let machine = Machine::new();
    for seed in KEPT {
        hold(&machine, *seed);
    }
}

#[test]
fn a_simulated_transfer_is_repeated_by_its_seed() {
    let machine = Machine::new();
    for seed in 0..50 {
        assert_eq!(hold(&machine, seed), hold(&machine, seed), "{seed}");
    }
}

/// Whether one of some transfers breaks the promise that is named so.
fn noticed(plant: Plant, promise: &str) {
    let machine = Machine::new();
    let mut others = std::collections::BTreeSet::new();
    for seed in 0..2_000 {
        match transfer(&machine, seed, plant) {
            Err(broken) if broken.contains(promise) => return,
            Err(broken) => drop(others.insert(broken)),
            Ok(_) => {}
        }
    }
    panic!("{plant:?} was not noticed; what was: {others:?}");
}

#[test]
fn the_judges_notice_a_part_recorded_before_the_store_has_it() {
    noticed(Plant::ConfirmsEarly, "recorded before the store had it");
}

#[test]
fn the_judges_notice_an_upload_id_that_is_not_durable_before_the_first_part() {
    noticed(Plant::SyncsLate, "before the id was durable");
}

#[test]
fn the_judges_notice_a_disk_that_lies_about_sync() {
    noticed(Plant::SyncLies, "before the id was durable");
}

#[test]
fn the_judges_notice_a_success_without_a_checksum() {
    noticed(Plant::NoChecksums, "an object that is not the file");
}

#[test]
fn the_judges_notice_a_log_that_is_believed_more_than_the_store() {
    noticed(Plant::TrustsTheLog, "did not finish");
}

#[test]
fn the_judges_notice_durable_parts_that_are_sent_again() {
    noticed(Plant::ForgetsTheLog, "sent again");
}

#[test]
fn the_judges_notice_an_object_that_is_sent_again_though_it_is_stored() {
    noticed(Plant::HidesTheObject, "stored was forgotten");
}

#[test]
fn the_judges_notice_parts_that_are_believed_of_a_file_that_moved() {
    noticed(Plant::TrustsTheFile, "an object that is not the file");
}
