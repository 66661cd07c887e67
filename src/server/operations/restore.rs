//! RestoreObject, and what archived objects refuse until it is through and after it has ended.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;

use super::body::Incoming;
use super::{Answer, Context, call, headers};
use crate::server::access::http_date;
use crate::server::errors::{Code, Failure};
use crate::server::store::{Address, Object, storage_class};
use crate::server::xml::parse_restore;

/// Kept with an object that was restored; what clients are told is [`told`].
pub(super) const RESTORED: &str = "x-oss-restore";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// When a restored object can be read.
struct Restored {
    from: SystemTime,
    until: SystemTime,
}

impl Restored {
    /// `None` for an object that was not restored, and for one whose time has ended.
    fn of(object: &Object, now: SystemTime) -> Option<Self> {
        let (from, until) = object.header(RESTORED)?.split_once(' ')?;
        let time = |text: &str| UNIX_EPOCH.checked_add(Duration::from_millis(text.parse().ok()?));
        Some(Self { from: time(from)?, until: time(until)? }).filter(|restored| now < restored.until)
    }

    /// Both times in milliseconds since the epoch.
    fn kept(&self) -> String {
        let text = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis().to_string();
        format!("{} {}", text(self.from), text(self.until))
    }
}

fn is_archived(object: &Object) -> bool {
    matches!(storage_class(&object.headers), "Archive" | "ColdArchive" | "DeepColdArchive")
}

/// # Errors
/// `InvalidObjectState` for an archived object that is not restored.
pub(super) fn check_readable(object: &Object) -> Result<(), Failure> {
    let now = SystemTime::now();
    if is_archived(object) && Restored::of(object, now).is_none_or(|restored| now < restored.from) {
        let message = "The object is archived: restore it first (POST ?restore), and wait until that is through.";
        return Err(Failure::new(Code::InvalidObjectState, message));
    }
    Ok(())
}

/// `x-oss-restore`, and `RestoreInfo` of a listing; `None` for an object that is not restored.
pub(super) fn told(object: &Object) -> Option<String> {
    let now = SystemTime::now();
    let restored = Restored::of(object, now)?;
    Some(match now < restored.from {
        true => "ongoing-request=\"true\"".to_owned(),
        false => format!("ongoing-request=\"false\", expiry-date=\"{}\"", http_date(restored.until)),
    })
}

pub(super) async fn restore_object(context: Context<'_>, at: Address, body: &mut Incoming) -> Result<Answer, Failure> {
    let object = context.catalog.object(&at)?;
    let readable_for = time_asked_for(context, &object, body).await?;
    let now = SystemTime::now();
    let (status, from) = match Restored::of(&object, now) {
        Some(restored) if now < restored.from => {
            let message = "The restore operation is in progress.";
            return Err(Failure::new(Code::RestoreAlreadyInProgress, message));
        }
        Some(restored) => (StatusCode::OK, restored.from),
        None => (StatusCode::ACCEPTED, now + context.restore_time),
    };
    let restored = Restored { from, until: from.max(now) + readable_for };
    let note = move |kept: &mut _| headers::set(kept, RESTORED, Some(restored.kept()));
    call(context.catalog, move |catalog| catalog.amend_object(&at, note)).await?;
    Ok(Answer::new(status))
}

/// How long the object is to be readable: one day unless the body says otherwise.
async fn time_asked_for(context: Context<'_>, object: &Object, body: &mut Incoming) -> Result<Duration, Failure> {
    if !is_archived(object) {
        return Err(Failure::new(Code::OperationNotSupported, "The operation is not supported for this resource")
            .with("Detail", "RestoreObject operation does not support this object storage class"));
    }
    let document = body.document(context.request).await?;
    let days = match document.is_empty() {
        true => 1,
        false => parse_restore(&document).map_err(|why| Failure::new(Code::MalformedXML, why))?,
    };
    let most = if storage_class(&object.headers) == "Archive" { 7 } else { 365 };
    match (1..=most).contains(&days) {
        true => Ok(DAY * days),
        false => {
            Err(Failure::argument("Days", &days.to_string(), format!("Days are from 1 to {most} for this class.")))
        }
    }
}
