//! What a shell hears of an error: its exit code, and what a person can do next. Codes are documented and stable.

use haul::error::Error;
use haul::model::retry::FaultKind;

pub const USAGE: u8 = 2;
pub const SOURCE: u8 = 3;
pub const CREDENTIALS: u8 = 4;
pub const REFUSED: u8 = 5;
pub const INTEGRITY: u8 = 6;
pub const RETRY_LATER: u8 = 7;
pub const CHECKPOINT: u8 = 8;
pub const INTERRUPTED: u8 = 130;
pub const OTHER: u8 = 1;

/// The exit code of `error`.
pub fn code(error: &Error) -> u8 {
    match error {
        Error::Settings(_) | Error::Name(_) | Error::Certificate { .. } => USAGE,
        Error::Plan(_) => REFUSED,
        Error::Source(_) => SOURCE,
        Error::Checkpoint(_) => CHECKPOINT,
        Error::Exchange { fault, .. } => fault_code(fault.kind),
        Error::PartCorrupted { .. } | Error::ObjectCorrupted { .. } => INTEGRITY,
        Error::Cancelled => INTERRUPTED,
        _ => OTHER,
    }
}

fn fault_code(kind: FaultKind) -> u8 {
    match kind {
        FaultKind::Transport | FaultKind::Server | FaultKind::Throttled => RETRY_LATER,
        FaultKind::Corrupted => INTEGRITY,
        FaultKind::ClockSkew | FaultKind::Credentials => CREDENTIALS,
        FaultKind::NotFound | FaultKind::NoSuchUpload | FaultKind::Conflict | FaultKind::Refused => REFUSED,
        _ => OTHER,
    }
}

/// What a person can do about `error`, if there is something.
pub fn hint(error: &Error) -> Option<&'static str> {
    if error.fault_kind() == Some(FaultKind::ClockSkew) {
        return Some("set the clock of this machine right, then run the same command again");
    }
    Some(match code(error) {
        USAGE => "correct the command; haul help shows every option",
        SOURCE => "check that the file exists, can be read and does not change while it is sent",
        CREDENTIALS => "check OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET, the region and the permissions of the key",
        REFUSED => "check the bucket, the key and the limits of the store",
        INTEGRITY => "suspect memory, disk or network; the file in the store is not to be trusted",
        RETRY_LATER => "run the same command again later; it goes on where it stopped",
        CHECKPOINT => {
            "choose another place with --checkpoint PATH or --checkpoint-dir DIR, or go without: --no-checkpoint"
        }
        INTERRUPTED => "run the same command again to go on",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use haul::checkpoint::CheckpointError;
    use haul::model::retry::Fault;

    #[test]
    fn every_kind_of_fault_has_its_documented_code() {
        for (kind, wanted) in [
            (FaultKind::Transport, 7),
            (FaultKind::Server, 7),
            (FaultKind::Throttled, 7),
            (FaultKind::Corrupted, 6),
            (FaultKind::ClockSkew, 4),
            (FaultKind::Credentials, 4),
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
        assert_eq!(code(&Error::Settings("x".into())), 2);
        assert_eq!(code(&Error::ObjectCorrupted { sent: 1, received: 2 }), 6);
        assert_eq!(code(&Error::Cancelled), 130);
        assert_eq!(code(&Error::System { what: "start a thread", cause: std::io::Error::other("x") }), 1);
    }

    #[test]
    fn a_checkpoint_error_names_the_options_that_help() {
        let error = Error::from(CheckpointError::Busy { path: "x.cp".into() });
        let hint = hint(&error).unwrap();
        assert_eq!(code(&error), 8);
        assert!(["--checkpoint PATH", "--checkpoint-dir DIR", "--no-checkpoint"].iter().all(|o| hint.contains(o)));
    }
}
