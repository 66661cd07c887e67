//! Credentials from the environment (specification, section 7.1). Empty values count as unset.

use super::{Credentials, CredentialsError, assemble};

/// Names of id, secret and token, in the order in which they are tried.
const NAMES: [[&str; 3]; 2] = [
    ["OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"],
    ["ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN"],
];

/// Credentials from the variables that `lookup` knows.
///
/// # Errors
/// [`CredentialsError::Half`] if only one of id and secret is set.
pub fn from(lookup: impl Fn(&str) -> Option<String>) -> Result<Option<Credentials>, CredentialsError> {
    let lookup = |name: &str| lookup(name).filter(|value| !value.is_empty());
    for [id, secret, token] in NAMES {
        if let Some(found) = assemble([(id, lookup(id)), (secret, lookup(secret))], lookup(token))? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<Option<Credentials>, CredentialsError> {
        from(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_names_of_oss_win_and_empty_ones_count_as_unset() {
        let alibaba = [("ALIBABA_CLOUD_ACCESS_KEY_ID", "b"), ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "2")];
        let oss = [("OSS_ACCESS_KEY_ID", "a"), ("OSS_ACCESS_KEY_SECRET", "1"), ("OSS_SESSION_TOKEN", "t")];
        let found = with(&[&alibaba[..], &oss[..]].concat()).unwrap().unwrap();
        assert_eq!(
            (found.access_key_id.as_str(), found.session_token.as_deref().map(String::as_str)),
            ("a", Some("t"))
        );
        let empty = [("OSS_ACCESS_KEY_ID", ""), ("OSS_ACCESS_KEY_SECRET", "")];
        assert_eq!(with(&[&alibaba[..], &empty[..]].concat()).unwrap().unwrap().access_key_id, "b");
        assert!(with(&[]).unwrap().is_none());
    }

    #[test]
    fn an_id_without_secret_names_what_is_missing() {
        let error = with(&[("OSS_ACCESS_KEY_ID", "a")]).unwrap_err();
        assert_eq!(error.to_string(), "OSS_ACCESS_KEY_ID is set but OSS_ACCESS_KEY_SECRET is not");
    }
}
