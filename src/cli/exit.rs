//! What a shell hears of a failure: its exit code, and what a person can do next. Codes are documented and stable.

use haul::checkpoint::CheckpointError;
use haul::error::Error;
use haul::model::retry::FaultKind;
use haul::source::SourceError;

pub const USAGE: u8 = 2;
pub const SOURCE: u8 = 3;
pub const CREDENTIALS: u8 = 4;
pub const REFUSED: u8 = 5;
pub const INTEGRITY: u8 = 6;
pub const RETRY_LATER: u8 = 7;
pub const CHECKPOINT: u8 = 8;
pub const INTERRUPTED: u8 = 130;
pub const OTHER: u8 = 1;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub message: String,
    /// What to do next.
    pub hint: Option<&'static str>,
}

impl Failure {
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: hint(code) }
    }

    pub fn signals(cause: std::io::Error) -> Self {
        Error::System { what: "handle signals", cause }.into()
    }

    /// What to do next after an upload: whether the same command resumes it depends on there being a checkpoint.
    pub fn of_upload(self, keeps_checkpoint: bool) -> Self {
        let hint = match self.code {
            RETRY_LATER if keeps_checkpoint => Some("run the same command again later; it resumes where it stopped"),
            INTERRUPTED if keeps_checkpoint => Some("run the same command again to resume"),
            INTERRUPTED => Some("without a checkpoint the same command begins again"),
            _ => self.hint,
        };
        Self { hint, ..self }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = code(&error);
        let hint = match error.fault_kind() {
            _ if matches!(error, Error::Receipt { .. }) && lack(&error).is_none() => {
                Some("choose another place for the receipt")
            }
            _ if matches!(error, Error::StoredWithoutReceipt { .. }) => Some(
                "choose another place for the receipt and run the same command: of an upload in parts nothing is sent again",
            ),
            _ if suspects(&error).is_some() => suspects(&error),
            _ if lack(&error).is_some() => lack(&error),
            _ if is_about_the_reader(&error) => Some("choose another --reader, or leave the choice to haul: auto"),
            Some(FaultKind::ClockSkew) => Some("set the clock of this machine right, then run the same command again"),
            Some(FaultKind::Untrusted) => Some("send nothing to it; if the server is yours, put its TLS right"),
            Some(FaultKind::UnknownAuthority) => {
                Some("send nothing to it; if the server is yours, name its authority with --ca-cert FILE")
            }
            Some(FaultKind::Endpoint) => Some("correct the endpoint or the proxy: the same command will fail again"),
            Some(FaultKind::Protocol) => Some(
                "check the endpoint and the proxy: what answered is not the store, or something in between changes what it \
                 says",
            ),
            _ => hint(code),
        };
        Self { code, message: error.to_string(), hint }
    }
}

/// The file may be well: this machine has not got what was asked for.
fn is_about_the_reader(error: &Error) -> bool {
    matches!(error, Error::Source(SourceError::Reader { .. }))
}

/// What this process was refused by the system, if that is why: neither the file nor the disk is to blame then.
fn lack(error: &Error) -> Option<&'static str> {
    let cause = match error {
        Error::Source(
            SourceError::Open { cause, .. } | SourceError::Read { cause, .. } | SourceError::NoMemory { cause },
        ) => cause,
        Error::Checkpoint(
            CheckpointError::Unwritable { cause, .. }
            | CheckpointError::Unreadable { cause, .. }
            | CheckpointError::NoThread { cause },
        ) => &**cause,
        Error::System { cause, .. } | Error::Receipt { cause, .. } => cause,
        _ => return None,
    };
    match cause.raw_os_error() {
        _ if matches!(error, Error::Source(SourceError::NoMemory { .. })) => Some(MEMORY),
        Some(libc::ENOMEM) => Some(MEMORY),
        Some(libc::EAGAIN) => Some(
            "allow this process more threads (ulimit -u, the limit of processes of the container) or more memory, or \
             use fewer: --threads 1",
        ),
        Some(libc::EMFILE | libc::ENFILE) => Some("allow more open files (ulimit -n), or use fewer: --parallel 2"),
        _ => None,
    }
}

const MEMORY: &str =
    "allow this process more memory (ulimit -v, the limit of the container), or hold less: --reader pread --parallel 2";

/// What to suspect where bytes are not what they were: whatever lies between the two places that were compared.
fn suspects(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::PartCorrupted { .. } => {
            "suspect what is between this process and the store: memory, network card, network; a checkpoint is kept: \
             test the memory, or go on from another machine"
        }
        Error::PutCorrupted { .. } => {
            "suspect what is between this process and the store: memory, network card, network; the object is not to be \
             trusted: upload it again, or from another machine"
        }
        Error::ObjectCorrupted { parts_unverified: 0, .. } => {
            "suspect the store, which joined good parts to a wrong object: do not trust the object, tell the provider, \
             and run the same command again"
        }
        Error::ObjectCorrupted { .. } => {
            "suspect memory, network and store: do not trust the object, and run the same command again"
        }
        Error::RereadDiffers { .. } => {
            "suspect the disk, its cable and the memory: the object is stored, but which of the two is right is not \
             known; read the file again with haul verify, and upload it again if it is right"
        }
        _ => return None,
    })
}

fn code(error: &Error) -> u8 {
    match error {
        Error::Settings(_) | Error::Name(_) | Error::Tls(_) => USAGE,
        Error::Plan(_) => REFUSED,
        _ if is_about_the_reader(error) => USAGE,
        Error::Source(_) if lack(error).is_some() => OTHER,
        Error::Source(_) => SOURCE,
        Error::Checkpoint(CheckpointError::NoThread { .. }) => OTHER,
        Error::Checkpoint(_) => CHECKPOINT,
        Error::Exchange { fault, .. } => fault_code(fault.kind),
        Error::Receipt { .. } | Error::StoredWithoutReceipt { .. } => CHECKPOINT,
        _ if suspects(error).is_some() => INTEGRITY,
        Error::Cancelled => INTERRUPTED,
        _ => OTHER,
    }
}

fn fault_code(kind: FaultKind) -> u8 {
    match kind {
        FaultKind::Transport | FaultKind::Server | FaultKind::Throttled => RETRY_LATER,
        FaultKind::Corrupted => INTEGRITY,
        FaultKind::ClockSkew | FaultKind::Credentials | FaultKind::TokenExpired => CREDENTIALS,
        FaultKind::Untrusted | FaultKind::UnknownAuthority => CREDENTIALS,
        FaultKind::Endpoint => USAGE,
        FaultKind::NotFound | FaultKind::NoSuchUpload | FaultKind::Conflict | FaultKind::Refused => REFUSED,
        _ => OTHER,
    }
}

fn hint(code: u8) -> Option<&'static str> {
    Some(match code {
        USAGE => "correct the command; --help shows every option with examples",
        SOURCE => "check that the file exists, can be read and does not change while it is sent",
        CREDENTIALS => {
            "`haul credentials` says which key is used and until when; check it, its rights, the region and the clock"
        }
        REFUSED => "check the bucket, the key and the options against what the store says",
        INTEGRITY => "suspect memory, disk or network; nothing in the store is to be trusted yet",
        RETRY_LATER => "run the same command again later",
        CHECKPOINT => {
            "choose another place with --checkpoint PATH or --checkpoint-dir DIR, or do without: --no-checkpoint"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use haul::model::object::NameError;
    use haul::model::part::{PartNumber, PlanError};
    use haul::model::retry::Fault;
    use haul::net::tls::TlsError;
    use haul::source::SourceError;

    use super::*;

    #[test]
    fn every_kind_of_fault_has_its_documented_code() {
        for (kind, wanted) in [
            (FaultKind::Transport, 7),
            (FaultKind::Server, 7),
            (FaultKind::Throttled, 7),
            (FaultKind::Corrupted, 6),
            (FaultKind::ClockSkew, 4),
            (FaultKind::Credentials, 4),
            (FaultKind::TokenExpired, 4),
            (FaultKind::Untrusted, 4),
            (FaultKind::UnknownAuthority, 4),
            (FaultKind::Endpoint, 2),
            (FaultKind::NotFound, 5),
            (FaultKind::NoSuchUpload, 5),
            (FaultKind::Conflict, 5),
            (FaultKind::Refused, 5),
            (FaultKind::Protocol, 1),
        ] {
            let fault = Box::new(Fault::new(kind, "x"));
            assert_eq!(code(&Error::Exchange { operation: "PutObject", attempts: 1, fault }), wanted, "{kind:?}");
        }
    }

    #[test]
    fn errors_without_an_exchange_have_their_documented_code() {
        let source = SourceError::NotAFile { path: "x".into(), what: "a directory" };
        for (error, wanted) in [
            (Error::Settings("x".into()), 2),
            (Error::Name(NameError::Key("".into())), 2),
            (Error::Tls(TlsError::NoRoots), 2),
            (Error::Plan(PlanError::TooLarge { object_bytes: 2, max: 1 }), 5),
            (Error::Source(source), 3),
            (Error::Checkpoint(CheckpointError::Busy { path: PathBuf::new(), pid: None }), 8),
            (Error::PartCorrupted { part: PartNumber::new(1).unwrap(), sent: 1, received: 2 }, 6),
            (Error::PutCorrupted { sent: 1, received: 2 }, 6),
            (Error::ObjectCorrupted { sent: 1, received: 2, parts_unverified: 0 }, 6),
            (Error::RereadDiffers { part: None, sent: 1, reread: 2 }, 6),
            (Error::Receipt { path: PathBuf::new(), cause: std::io::Error::other("x") }, 8),
            (Error::StoredWithoutReceipt { path: PathBuf::new(), cause: std::io::Error::other("x") }, 8),
            (Error::Cancelled, 130),
            (Error::System { what: "start a thread", cause: std::io::Error::other("x") }, 1),
        ] {
            assert_eq!(code(&error), wanted, "{error}");
        }
    }

    #[test]
    fn a_reader_that_is_not_to_be_had_is_a_matter_of_the_command() {
        let cause = std::io::Error::other("disabled");
        let reader = haul::model::settings::ReaderKind::Uring;
        let failure = Failure::from(Error::Source(SourceError::Reader { path: "f".into(), reader, cause }));
        assert_eq!(failure.code, USAGE);
        assert!(failure.hint.is_some_and(|hint| hint.contains("--reader")));
    }

    #[test]
    fn a_checkpoint_error_names_the_options_that_help() {
        let failure = Failure::from(Error::from(CheckpointError::Busy { path: "x.cp".into(), pid: None }));
        let hint = failure.hint.unwrap();
        assert!(["--checkpoint PATH", "--checkpoint-dir DIR", "--no-checkpoint"].iter().all(|o| hint.contains(o)));
    }
}
