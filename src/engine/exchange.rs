//! One operation: signed when it is sent, tried again as the policy allows.

use std::time::SystemTime;

use super::Engine;
use super::transfer::Transfer;
use crate::error::Error;
use crate::model::event::Event;
use crate::model::part::PartNumber;
use crate::model::retry::{Fault, Verdict};
use crate::net::{Body, full};
use crate::store::Operation;

impl Engine {
    /// One try. `body` replaces the operation's own.
    pub(super) async fn once<O: Operation + Sync>(&self, operation: &O, body: Option<Body>) -> Result<O::Reply, Fault> {
        let key = match &self.keyring {
            Some(keyring) => Some(keyring.current().await?),
            None => None,
        };
        let credentials = key.as_ref().map(|key| &*key.credentials);
        let request = self.store.request(operation, credentials, SystemTime::now());
        let (head, own) = request.into_parts();
        let body = body.unwrap_or_else(|| full(own));
        let response = self.transport.send(http::Request::from_parts(head, body)).await?;
        let reply = self.store.reply(operation, &response);
        match (&self.keyring, &key) {
            (Some(keyring), Some(key)) => keyring.judge(key, reply).await,
            _ => reply,
        }
    }

    /// Tries until it works or the policy gives up.
    pub(crate) async fn exchange<O: Operation + Sync>(
        &self,
        operation: &O,
        transfer: Option<&Transfer>,
    ) -> Result<O::Reply, Error> {
        let mut attempt = 1;
        loop {
            let fault = match self.once(operation, None).await {
                Ok(reply) => return Ok(reply),
                Err(fault) => fault,
            };
            if !self.back_off(O::NAME, None, &fault, attempt, transfer).await {
                return Err(Error::Exchange { operation: O::NAME, attempts: attempt, fault: Box::new(fault) });
            }
            attempt += 1;
        }
    }

    /// Waits before the next attempt and returns `true`, or returns `false` if there shall be none.
    pub(super) async fn back_off(
        &self,
        operation: &'static str,
        part: Option<PartNumber>,
        fault: &Fault,
        attempt: u32,
        transfer: Option<&Transfer>,
    ) -> bool {
        let Verdict::Again(delay) = self.retry.decide(fault, attempt, fastrand::f64()) else { return false };
        if let Some(transfer) = transfer {
            transfer.tell(Event::Retrying {
                operation,
                part: part.map(PartNumber::get),
                attempt,
                delay_ms: delay.as_millis() as u64,
                fault: fault.to_string(),
            });
        }
        tokio::time::sleep(delay).await;
        true
    }
}
