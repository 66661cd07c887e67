//! What may be said about an object (specification, sections 4.0 and 8). Checked before anything is sent.

use http::HeaderValue;

use crate::model::settings::ObjectOptions;

const TAGS_MAX: usize = 10;
const TAG_NAME_BYTES_MAX: usize = 128;
const TAG_VALUE_BYTES_MAX: usize = 256;
const METADATA_BYTES_MAX: usize = 8 << 10;
const TRAFFIC_LIMIT: std::ops::RangeInclusive<u64> = 819_200..=838_860_800;

/// A value that the store would refuse. Correct it; nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    #[error("{what} holds characters that an HTTP header cannot carry")]
    Unprintable { what: String },
    #[error("{what} {value:?} is not one of {allowed}")]
    Unknown { what: &'static str, value: String, allowed: String },
    #[error("{what} is too long or too many: at most {max}")]
    TooMuch { what: &'static str, max: String },
    #[error("a traffic limit of {0} bit/s is outside {min} to {max} bit/s", min = TRAFFIC_LIMIT.start(), max = TRAFFIC_LIMIT.end())]
    TrafficLimit(u64),
    #[error("the metadata name {0:?} is not made of letters, digits and '-'")]
    MetadataName(String),
}

pub(super) fn check(options: &ObjectOptions) -> Result<(), OptionsError> {
    let texts = [
        ("the content type", &options.content_type),
        ("the cache control", &options.cache_control),
        ("the content disposition", &options.content_disposition),
        ("the content encoding", &options.content_encoding),
        ("the key id of the encryption", &options.sse_key_id),
    ];
    for (what, text) in texts {
        printable(what, text.as_deref().unwrap_or_default())?;
    }
    one_of(
        "the storage class",
        &options.storage_class,
        &["Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive"],
    )?;
    one_of("the ACL", &options.acl, &["default", "private", "public-read", "public-read-write"])?;
    one_of("the encryption", &options.sse, &["AES256", "KMS", "SM4"])?;
    check_metadata(&options.metadata)?;
    check_tags(&options.tags)?;
    match options.traffic_limit {
        Some(limit) if !TRAFFIC_LIMIT.contains(&limit) => Err(OptionsError::TrafficLimit(limit)),
        _ => Ok(()),
    }
}

fn printable(what: &str, text: &str) -> Result<(), OptionsError> {
    let carried = HeaderValue::from_str(text).is_ok_and(|value| value.to_str().is_ok());
    if carried { Ok(()) } else { Err(OptionsError::Unprintable { what: what.to_owned() }) }
}

fn one_of(what: &'static str, value: &Option<String>, allowed: &[&str]) -> Result<(), OptionsError> {
    match value {
        Some(value) if !allowed.contains(&value.as_str()) => {
            Err(OptionsError::Unknown { what, value: value.clone(), allowed: allowed.join(", ") })
        }
        _ => Ok(()),
    }
}

fn check_metadata(metadata: &[(String, String)]) -> Result<(), OptionsError> {
    let mut bytes = 0;
    for (name, value) in metadata {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(OptionsError::MetadataName(name.clone()));
        }
        printable(&format!("the metadata {name}"), value)?;
        bytes += name.len() + value.len();
    }
    if bytes > METADATA_BYTES_MAX {
        return Err(OptionsError::TooMuch { what: "metadata", max: format!("{METADATA_BYTES_MAX} bytes in all") });
    }
    Ok(())
}

fn check_tags(tags: &[(String, String)]) -> Result<(), OptionsError> {
    if tags.len() > TAGS_MAX {
        return Err(OptionsError::TooMuch { what: "tags", max: TAGS_MAX.to_string() });
    }
    let long = |(name, value): &&(String, String)| name.len() > TAG_NAME_BYTES_MAX || value.len() > TAG_VALUE_BYTES_MAX;
    match tags.iter().find(long) {
        Some(_) => Err(OptionsError::TooMuch {
            what: "a tag",
            max: format!("{TAG_NAME_BYTES_MAX} bytes of name and {TAG_VALUE_BYTES_MAX} of value"),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(options: ObjectOptions) -> OptionsError {
        check(&options).unwrap_err()
    }

    #[test]
    fn values_that_the_store_would_refuse_are_named() {
        let text = |t: &str| Some(t.to_owned());
        let pair = |n: &str, v: &str| vec![(n.to_owned(), v.to_owned())];
        let default = ObjectOptions::default;
        assert!(matches!(
            refused(ObjectOptions { content_type: text("a\nb"), ..default() }),
            OptionsError::Unprintable { .. }
        ));
        assert!(matches!(
            refused(ObjectOptions { storage_class: text("standard"), ..default() }),
            OptionsError::Unknown { .. }
        ));
        assert!(matches!(refused(ObjectOptions { acl: text("open"), ..default() }), OptionsError::Unknown { .. }));
        assert!(matches!(refused(ObjectOptions { sse: text("rot13"), ..default() }), OptionsError::Unknown { .. }));
        assert!(matches!(
            refused(ObjectOptions { metadata: pair("a b", ""), ..default() }),
            OptionsError::MetadataName(_)
        ));
        assert!(matches!(
            refused(ObjectOptions { metadata: pair("a", "é"), ..default() }),
            OptionsError::Unprintable { .. }
        ));
        assert!(matches!(
            refused(ObjectOptions { tags: pair("a", &"b".repeat(257)), ..default() }),
            OptionsError::TooMuch { .. }
        ));
        assert_eq!(refused(ObjectOptions { traffic_limit: Some(1), ..default() }), OptionsError::TrafficLimit(1));
        assert_eq!(check(&default()), Ok(()));
    }
}
