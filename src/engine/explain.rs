//! Where the time of an upload went: told when it has ended, however it did.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use super::Engine;
use super::transfer::Transfer;
use crate::model::event::Event;
use crate::model::explain::Figures;
use crate::model::settings::{Parallel, UploadRequest};
use crate::net::limit::cpu_time;

/// Runs from the beginning of an upload.
pub(super) struct Stopwatch {
    begun: Instant,
    cpu_before: Duration,
}

impl Stopwatch {
    pub fn start() -> Self {
        Self { begun: Instant::now(), cpu_before: cpu_time() }
    }

    /// An [`Event::Explained`].
    pub fn explain(&self, engine: &Engine, transfer: &Transfer, request: &UploadRequest) -> Event {
        let count = |count: &std::sync::atomic::AtomicU32| count.load(Relaxed);
        let figures = Figures {
            costs: transfer.spent.costs(),
            elapsed: self.begun.elapsed(),
            cpu: cpu_time().saturating_sub(self.cpu_before),
            cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
            threads: engine.threads,
            parallel: request.parallel,
            in_flight: match request.parallel {
                Parallel::Auto => engine.endpoint.slots.limit(),
                Parallel::Parts(parts) => parts,
            },
            parts: count(&transfer.counters.parts_total).saturating_sub(count(&transfer.counters.parts_resumed)),
        };
        Event::Explained {
            seconds: figures.elapsed.as_secs_f64(),
            cpu_seconds: figures.cpu.as_secs_f64(),
            stages: figures.costs,
            limit: figures.limit(),
            sentence: figures.sentence(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    use bytes::Bytes;
    use futures_util::future::BoxFuture;
    use http::{Request, Response};
    use http_body_util::BodyExt;
    use tokio::time::sleep;

    use super::*;
    use crate::engine::attempt::Upload;
    use crate::engine::memory::Memory;
    use crate::engine::slots::Slots;
    use crate::engine::transfer::Transfer;
    use crate::engine::worker::{Missing, send_missing};
    use crate::engine::{Endpoint, Engine};
    use crate::model::event::{Event, Observer, Step};
    use crate::model::explain::{Cost, Costs, Limit};
    use crate::model::object::{Bucket, Key, UploadId};
    use crate::model::part::{Limits, PartPlan};
    use crate::model::retry::{Fault, RetryPolicy};
    use crate::model::settings::{ClientSettings, ObjectOptions};
    use crate::net::stage::Stage;
    use crate::net::{Body, Transport};
    use crate::source::buffer::{BufferPool, CHUNK_BYTES, Lease};
    use crate::source::{Reading, Source, SourceError};
    use crate::store::Store;

    const PARTS: u64 = 16;
    const CHUNKS: u64 = 4;
    const PARALLEL: u32 = 4;

    /// How an upload goes, on a clock that only jumps.
    #[derive(Clone, Copy, Default)]
    struct World {
        reading_ms: u64,
        /// Buffers that there are; 0: two.
        buffer_bytes: usize,
        /// The network takes a chunk in this time.
        sending_ms: u64,
        answer_ms: u64,
        /// So many requests are refused first.
        throttled: u32,
        /// The read of this byte fails.
        fails_at: Option<u64>,
    }

    /// Zeros, slowly.
    struct Disk(World, BufferPool);

    impl Source for Disk {
        fn read(&self, at: u64, bytes: usize) -> Reading {
            let world = self.0;
            let read = move |lease: Lease| async move {
                sleep(Duration::from_millis(world.reading_ms)).await;
                match world.fails_at {
                    Some(bad) if at >= bad => {
                        Err(SourceError::Read { path: "f".into(), at, cause: std::io::Error::other("bad block") })
                    }
                    _ => Ok(lease.freeze(0..bytes)),
                }
            };
            match self.1.try_lease() {
                Some(lease) => Reading::new(read(lease)),
                None => Reading::with_lease(&self.1, read),
            }
        }

        fn chunk_bytes(&self) -> usize {
            CHUNK_BYTES
        }

        fn read_ahead(&self) -> usize {
            0
        }
    }

    /// A network and a store.
    struct Line(World, AtomicU32);

    impl Transport for Line {
        fn send(&self, request: Request<Body>) -> BoxFuture<'_, Result<Response<Bytes>, Fault>> {
            Box::pin(async move {
                let (head, mut body) = request.into_parts();
                let stage = head.extensions.get::<Stage>().unwrap();
                stage.set(Step::Sending);
                while let Some(frame) = body.frame().await {
                    stage.enter(Cost::Socket);
                    sleep(Duration::from_millis(self.0.sending_ms)).await;
                    stage.rest();
                    drop(frame.map_err(|e| Fault::new(crate::model::retry::FaultKind::Transport, e.to_string()))?);
                }
                stage.set(Step::Answer);
                sleep(Duration::from_millis(self.0.answer_ms)).await;
                let refused = self.1.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
                let (status, body) =
                    if refused { (503, "<Error><Code>QpsLimitExceeded</Code></Error>") } else { (200, "") };
                Ok(Response::builder().status(status).header("etag", "\"E\"").body(body.into()).unwrap())
            })
        }
    }

    struct Nobody;

    impl Observer for Nobody {
        fn event(&self, _: &Event) {}
    }

    /// Sends all parts of a file; gives what is said of it.
    async fn explained(world: World) -> (Costs, Limit, Duration) {
        let settings = ClientSettings { region: Some("r".into()), ..ClientSettings::new("http://127.0.0.1:1") };
        let engine = Engine {
            transport: Arc::new(Line(world, AtomicU32::new(world.throttled))),
            store: Store::new(&settings).unwrap(),
            keyring: None,
            retry: RetryPolicy::default(),
            endpoint: Endpoint::new(Slots::fixed(1)),
            buffers: BufferPool::new(0),
            endpoint_name: String::new(),
            threads: 2,
            explain: true,
            max_rate: None,
            memory: Memory::new(None, false, 0).unwrap(),
        };
        let request = UploadRequest {
            parallel: Parallel::Parts(PARALLEL),
            ..UploadRequest::new("f", Bucket::new("demo").unwrap(), Key::new("k").unwrap())
        };
        let (transfer, _cancel) = Transfer::new(Box::new(Nobody));
        let source: Arc<dyn Source> = Arc::new(Disk(world, BufferPool::new(world.buffer_bytes)));
        let part_bytes = CHUNKS * CHUNK_BYTES as u64;
        let plan = PartPlan::new(PARTS * part_bytes, part_bytes, Limits::OSS).unwrap();
        transfer.counters.parts_total.store(plan.count(), Relaxed);
        let upload = Upload {
            engine: &engine,
            transfer: &transfer,
            source: &source,
            bucket: &request.bucket,
            key: &request.key,
            options: &ObjectOptions::default(),
            upload_id: &UploadId("id".into()),
        };
        let stopwatch = Stopwatch::start();
        let missing = plan.parts().map(|part| Missing { part, found: None }).collect();
        let sent = send_missing(&upload, None, missing, &Slots::fixed(PARALLEL)).await;
        assert_eq!(sent.is_err(), world.fails_at.is_some());
        let event = stopwatch.explain(&engine, &transfer, &request);
        let Event::Explained { stages, limit, seconds, .. } = event else { panic!("{event:?}") };
        (stages, limit, Duration::from_secs_f64(seconds))
    }

    const PLENTY: usize = 64 << 20;
    /// Some of everything, so that what dominates does not do so for lack of others.
    const EVEN: World =
        World { reading_ms: 3, buffer_bytes: PLENTY, sending_ms: 3, answer_ms: 3, throttled: 0, fails_at: None };

    fn millis(costs: &Costs, cost: Cost) -> u128 {
        costs.get(cost).as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_disk_is_found_and_every_moment_of_it_counted() {
        let (costs, limit, elapsed) = explained(World { reading_ms: 50, ..EVEN }).await;
        assert_eq!(limit, Limit::Disk, "{costs:?}");
        let expected = u128::from(PARTS * CHUNKS * 50);
        assert!((expected..expected * 11 / 10).contains(&millis(&costs, Cost::Disk)), "{costs:?}");
        let slots = elapsed * PARALLEL;
        assert!(costs.total() > slots * 9 / 10 && costs.total() <= slots, "{costs:?} of {slots:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn too_few_buffers_are_found() {
        let (costs, limit, _) = explained(World { sending_ms: 50, buffer_bytes: 0, ..EVEN }).await;
        assert_eq!(limit, Limit::Buffers, "{costs:?}");
        let (costs, limit, _) = explained(World { sending_ms: 50, ..EVEN }).await;
        assert_eq!((limit, millis(&costs, Cost::Buffer)), (Limit::Connections, 0), "with plenty of them: {costs:?}");
        let (costs, limit, _) = explained(World { reading_ms: 50, buffer_bytes: 0, ..EVEN }).await;
        assert_eq!(limit, Limit::Disk, "they wait for the disk: {costs:?}");
        assert!(costs.get(Cost::Buffer) > costs.get(Cost::Store));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_store_is_found_and_every_moment_of_it_counted() {
        let (costs, limit, _) = explained(World { answer_ms: 300, ..EVEN }).await;
        assert_eq!(limit, Limit::Store, "{costs:?}");
        let expected = u128::from(PARTS * 300);
        assert!((expected..expected * 11 / 10).contains(&millis(&costs, Cost::Store)), "{costs:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_throttles_is_found() {
        let (costs, limit, _) = explained(World { throttled: 20, ..EVEN }).await;
        assert_eq!(limit, Limit::Throttling, "{costs:?}");
        assert_eq!(millis(&costs, Cost::Retry), 0, "being throttled is no failure");
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_failed_is_explained_too() {
        let (costs, limit, _) = explained(World { answer_ms: 300, fails_at: Some(20 << 20), ..EVEN }).await;
        assert_eq!(limit, Limit::Store, "{costs:?}");
    }
}
