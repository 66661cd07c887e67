//! One operation: signed when it is sent, tried again as the policy allows.

use std::sync::Arc;

use tokio::time::Instant;

use super::Engine;
use super::transfer::{InFlight, Transfer};
use crate::error::Error;
use crate::model::event::{Event, Step};
use crate::model::explain::Cost;
use crate::model::part::PartNumber;
use crate::model::retry::{Fault, FaultKind, Tries, Verdict};
use crate::net::meter::Totals;
use crate::net::stage::Stage;
use crate::net::{Body, full};
use crate::store::Operation;
use crate::store::redact::redact;

/// The tries of one operation.
pub(super) struct Exchange<'a> {
    pub engine: &'a Engine,
    pub transfer: Option<&'a Arc<Transfer>>,
    operation: &'static str,
    part: Option<PartNumber>,
    begun: Instant,
    tries: Tries,
    clock_was_set: bool,
    stage: Stage,
    in_flight: Option<InFlight>,
}

impl<'a> Exchange<'a> {
    pub fn new(engine: &'a Engine, transfer: Option<&'a Arc<Transfer>>, operation: &'static str) -> Self {
        Self::with(engine, transfer, operation, None, None)
    }

    /// The tries of one that carries bytes of the file: what they spend their time on counts.
    pub fn of_file(
        engine: &'a Engine,
        transfer: &'a Arc<Transfer>,
        operation: &'static str,
        part: Option<PartNumber>,
    ) -> Self {
        Self::with(engine, Some(transfer), operation, part, Some(transfer.spent.clone()))
    }

    fn with(
        engine: &'a Engine,
        transfer: Option<&'a Arc<Transfer>>,
        operation: &'static str,
        part: Option<PartNumber>,
        spent: Option<Arc<Totals>>,
    ) -> Self {
        let stage = Stage::counted(Step::Turn, spent);
        let in_flight = transfer.map(|transfer| transfer.begin(operation, part, stage.clone()));
        let (begun, tries) = (Instant::now(), Tries::default());
        Self { engine, transfer, operation, part, begun, tries, clock_was_set: false, stage, in_flight }
    }

    /// One try. `body` replaces the operation's own.
    pub async fn send<O: Operation + Sync>(&self, operation: &O, body: Option<Body>) -> Result<O::Reply, Fault> {
        let engine = self.engine;
        self.stage.set(Step::Turn);
        engine.endpoint.turn().await;
        self.stage.enter(Cost::Other);
        let key = match &engine.keyring {
            Some(keyring) => Some(keyring.current().await?),
            None => None,
        };
        let credentials = key.as_ref().map(|key| &*key.credentials);
        let request = engine.store.request(operation, credentials, engine.endpoint.time());
        let (mut head, own) = request.into_parts();
        head.extensions.insert(self.stage.clone());
        let carries_file = body.is_some();
        let begun = Instant::now();
        let body = body.unwrap_or_else(|| full(own));
        let answer = engine.transport.send(http::Request::from_parts(head, body)).await;
        let outcome = answer.and_then(|response| engine.store.reply(operation, &response));
        let outcome = outcome.map_err(|fault| redact(fault, credentials));
        engine.endpoint.learn(&outcome, (!carries_file).then(|| begun.elapsed()));
        match (&engine.keyring, &key) {
            (Some(keyring), Some(key)) => keyring.judge(key, outcome).await,
            _ => outcome,
        }
    }

    /// Where it stands.
    pub fn stage(&self) -> Stage {
        self.stage.clone()
    }

    /// Which try this is, from 1.
    pub fn number(&self) -> u32 {
        self.tries.total() + 1
    }

    /// After a failed try: waits and returns `true`, or returns `false` if there shall be no other.
    pub async fn again(&mut self, fault: &Fault) -> bool {
        if self.set_clock(fault) {
            return true;
        }
        self.tries.add(fault);
        let verdict = self.engine.retry.decide(fault, self.tries, self.begun.elapsed(), fastrand::f64());
        let Verdict::Again(mut delay) = verdict else { return false };
        if fault.kind != FaultKind::Throttled {
            delay = delay.max(self.engine.endpoint.retry_wait());
        }
        self.tell(Event::Retrying {
            operation: self.operation,
            part: self.part.map(PartNumber::get),
            attempt: self.tries.total(),
            delay_ms: delay.as_millis() as u64,
            fault: fault.to_string(),
        });
        self.stage.set(Step::BackOff);
        if fault.kind == FaultKind::Throttled {
            self.stage.enter(Cost::Throttled);
        }
        tokio::time::sleep(delay).await;
        if let Some(in_flight) = &self.in_flight {
            in_flight.attempt(self.number());
        }
        true
    }

    /// The error of an exchange that ended with `fault`.
    pub fn failed(&self, fault: Fault) -> Error {
        Error::Exchange { operation: self.operation, attempts: self.tries.total().max(1), fault: Box::new(fault) }
    }

    /// Takes the store's clock for ours if it refused our time; once, so that a store without a sane clock is not asked
    /// for ever.
    fn set_clock(&mut self, fault: &Fault) -> bool {
        let Some(date) = fault.date.filter(|_| fault.kind == FaultKind::ClockSkew && !self.clock_was_set) else {
            return false;
        };
        self.clock_was_set = true;
        if let Some(ahead) = self.engine.endpoint.set_clock(date) {
            let way = if ahead < 0 { "ahead of" } else { "behind" };
            let message =
                format!("the clock of this machine is {} s {way} the store's; going by the store's", ahead.abs());
            self.tell(Event::Warning { message });
        }
        true
    }

    fn tell(&self, event: Event) {
        if let Some(transfer) = self.transfer {
            transfer.tell(event);
        }
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.stage.end();
    }
}

impl Engine {
    /// Tries until it works or the policy gives up.
    pub(crate) async fn exchange<O: Operation + Sync>(
        &self,
        operation: &O,
        transfer: Option<&Arc<Transfer>>,
    ) -> Result<O::Reply, Error> {
        let mut exchange = Exchange::new(self, transfer, O::NAME);
        loop {
            match exchange.send(operation, None).await {
                Ok(reply) => return Ok(reply),
                Err(fault) if !exchange.again(&fault).await => return Err(exchange.failed(fault)),
                Err(_) => {}
            }
        }
    }
}
