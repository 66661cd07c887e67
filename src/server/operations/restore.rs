//! RestoreObject, and what archived objects refuse until then. A restored object is readable at once and for good.

use http::StatusCode;

use super::{Answer, Context, call, headers};
use crate::server::errors::{Code, Failure};
use crate::server::store::{Address, Object, storage_class};

/// Present once an object was restored.
const RESTORED: &str = "x-oss-restore";

fn is_archived(object: &Object) -> bool {
    matches!(storage_class(&object.headers), "Archive" | "ColdArchive" | "DeepColdArchive")
}

/// # Errors
/// `InvalidObjectState` for an archived object that was not restored.
pub(super) fn check_readable(object: &Object) -> Result<(), Failure> {
    if is_archived(object) && object.header(RESTORED).is_none() {
        return Err(Failure::new(
            Code::InvalidObjectState,
            "The object is archived: restore it first (POST ?restore).",
        ));
    }
    Ok(())
}

pub(super) async fn restore_object(context: Context<'_>, at: Address) -> Result<Answer, Failure> {
    let object = context.catalog.object(&at)?;
    if !is_archived(&object) {
        return Err(Failure::new(Code::InvalidObjectState, "Only archived objects can be restored."));
    }
    if object.header(RESTORED).is_some() {
        return Ok(Answer::new(StatusCode::OK));
    }
    let note = |kept: &mut _| headers::set(kept, RESTORED, Some("ongoing-request=\"false\"".to_owned()));
    call(context.catalog, move |catalog| catalog.amend_object(&at, note)).await?;
    Ok(Answer::new(StatusCode::ACCEPTED))
}
