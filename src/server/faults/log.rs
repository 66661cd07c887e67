//! What was injected: one JSON line each, and the last ones at hand.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::rule::FaultRule;
use crate::server::access::timestamp;
use crate::server::operations::Operation;
use crate::server::request::Request;

/// So many of the last are kept.
const RECENT: usize = 100;

/// One fault, as the log writes it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Injected {
    /// RFC 3339, with milliseconds.
    pub time: String,
    pub rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_id: Option<String>,
}

impl Injected {
    pub fn of(rule: &FaultRule, operation: Operation, request: &Request, request_id: &str) -> Self {
        Self {
            request_id: Some(request_id.to_owned()),
            operation: Some(operation.name()),
            bucket: request.bucket.as_ref().map(|bucket| bucket.as_str().to_owned()),
            key: request.key.clone(),
            part: request.query("partNumber").and_then(|number| number.parse().ok()),
            upload_id: request.query("uploadId").map(str::to_owned),
            ..Self::of_connection(rule)
        }
    }

    pub fn of_connection(rule: &FaultRule) -> Self {
        Self {
            time: timestamp(),
            rule: rule.to_string(),
            request_id: None,
            operation: None,
            bucket: None,
            key: None,
            part: None,
            upload_id: None,
        }
    }
}

pub(crate) struct FaultLog {
    file: Option<Mutex<File>>,
    recent: Mutex<VecDeque<Injected>>,
}

impl FaultLog {
    /// Appends to `path`, if one is given.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let file = path.map(|path| File::options().create(true).append(true).open(path)).transpose()?;
        Ok(Self { file: file.map(Mutex::new), recent: Mutex::default() })
    }

    pub fn note(&self, injected: Injected) {
        tracing::info!(rule = injected.rule, operation = injected.operation, key = injected.key, "fault");
        if let (Some(file), Ok(mut line)) = (&self.file, serde_json::to_vec(&injected)) {
            line.push(b'\n');
            if let Err(error) = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line) {
                tracing::warn!(%error, "the log of faults cannot be written");
            }
        }
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.truncate(RECENT - 1);
        recent.push_front(injected);
    }

    /// The last ones, youngest first.
    pub fn recent(&self) -> Vec<Injected> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
