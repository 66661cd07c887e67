//! Credentials from the environment (specification, section 7.1). Empty values count as unset.

use super::source::{Endpoints, Role, Source, origin};
use super::{Credentials, CredentialsError, assemble};

/// Gives the value of a variable, if it is set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Variables of id, secret and token that the OSS SDKs and ossutil use.
pub const OSS: [&str; 3] = ["OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"];
/// Those that most other tools use.
pub const ALIBABA_CLOUD: [&str; 3] =
    ["ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN"];

/// `scheme://host[:port]` of another STS, for private clouds and tests. Plain HTTP on this machine only.
pub const STS_ENDPOINT: &str = "HAUL_STS_ENDPOINT";
/// `scheme://host[:port]` of another metadata server.
pub const METADATA_ENDPOINT: &str = "HAUL_METADATA_ENDPOINT";

/// The value of a variable that is not empty.
pub(super) fn set(lookup: Lookup<'_>, name: &str) -> Option<String> {
    lookup(name).filter(|value| !value.is_empty())
}

/// Whether a variable says `true`, in any case.
pub(super) fn is_true(lookup: Lookup<'_>, name: &str) -> bool {
    lookup(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// A key from the variables `names`: [`OSS`] or [`ALIBABA_CLOUD`].
///
/// # Errors
/// [`CredentialsError::Half`] if only one of id and secret is set.
pub fn key([id, secret, token]: [&str; 3], lookup: Lookup<'_>) -> Result<Option<Credentials>, CredentialsError> {
    assemble([(id, set(lookup, id)), (secret, set(lookup, secret))], set(lookup, token))
}

/// OIDC, as it is injected into pods (RRSA).
///
/// # Errors
/// [`CredentialsError::Half`] if some but not all of the three variables it needs are set.
pub fn oidc(lookup: Lookup<'_>) -> Result<Option<Source>, CredentialsError> {
    const ROLE: &str = "ALIBABA_CLOUD_ROLE_ARN";
    const PROVIDER: &str = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN";
    const TOKEN: &str = "ALIBABA_CLOUD_OIDC_TOKEN_FILE";
    let half = |found: &str, missing: &str| CredentialsError::Half { found: found.into(), missing: missing.into() };
    // A role alone is not a wish for OIDC.
    let (provider_arn, token_file) = match (set(lookup, PROVIDER), set(lookup, TOKEN)) {
        (None, None) => return Ok(None),
        (Some(provider), Some(token)) => (provider, token.into()),
        (Some(_), None) => return Err(half(PROVIDER, TOKEN)),
        (None, Some(_)) => return Err(half(TOKEN, PROVIDER)),
    };
    let mut role = Role::new(set(lookup, ROLE).ok_or_else(|| half(TOKEN, ROLE))?);
    if let Some(name) = set(lookup, "ALIBABA_CLOUD_ROLE_SESSION_NAME") {
        role.session_name = name;
    }
    Ok(Some(Source::Oidc { role, provider_arn, token_file }))
}

/// Whom to ask, as the environment has it.
///
/// # Errors
/// [`CredentialsError::Address`] for addresses that cannot be, or must not be, asked.
pub fn endpoints(lookup: Lookup<'_>) -> Result<Endpoints, CredentialsError> {
    let sts = set(lookup, STS_ENDPOINT).map(|url| origin(&url, STS_ENDPOINT, false)).transpose()?;
    let metadata = set(lookup, METADATA_ENDPOINT).map(|url| origin(&url, METADATA_ENDPOINT, true)).transpose()?;
    let default = Endpoints::default();
    Ok(Endpoints {
        sts,
        sts_region: set(lookup, "ALIBABA_CLOUD_STS_REGION"),
        sts_vpc: is_true(lookup, "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED"),
        metadata: metadata.unwrap_or(default.metadata),
        metadata_v1: !is_true(lookup, "ALIBABA_CLOUD_IMDSV1_DISABLED"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(pairs: &[(&str, &str)], ask: impl Fn(Lookup<'_>) -> T) -> T {
        ask(&|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn a_key_has_its_token_and_empty_values_count_as_unset() {
        let variables = [("OSS_ACCESS_KEY_ID", "a"), ("OSS_ACCESS_KEY_SECRET", "1"), ("OSS_SESSION_TOKEN", "t")];
        let found = with(&variables, |lookup| key(OSS, lookup)).unwrap().unwrap();
        assert_eq!(
            (found.access_key_id.as_str(), found.session_token.as_deref().map(String::as_str)),
            ("a", Some("t"))
        );
        assert!(with(&variables, |lookup| key(ALIBABA_CLOUD, lookup)).unwrap().is_none());
        let empty = [("OSS_ACCESS_KEY_ID", ""), ("OSS_ACCESS_KEY_SECRET", "")];
        assert!(with(&empty, |lookup| key(OSS, lookup)).unwrap().is_none());
    }

    #[test]
    fn an_id_without_secret_names_what_is_missing() {
        let error = with(&[("OSS_ACCESS_KEY_ID", "a")], |lookup| key(OSS, lookup)).unwrap_err();
        assert_eq!(error.to_string(), "OSS_ACCESS_KEY_ID is set but OSS_ACCESS_KEY_SECRET is not");
    }

    #[test]
    fn oidc_needs_role_provider_and_token() {
        let [role, provider, token] = [
            ("ALIBABA_CLOUD_ROLE_ARN", "r"),
            ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "p"),
            ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", "/t"),
        ];
        assert!(with(&[role], oidc).unwrap().is_none(), "a role alone is no wish for OIDC");
        for some in [&[role, provider][..], &[token], &[token, provider]] {
            assert!(matches!(with(some, oidc), Err(CredentialsError::Half { .. })), "{some:?}");
        }
        let named = ("ALIBABA_CLOUD_ROLE_SESSION_NAME", "pod");
        let Some(Source::Oidc { role, provider_arn, token_file }) =
            with(&[role, provider, token, named], oidc).unwrap()
        else {
            panic!("configured")
        };
        assert_eq!((role.arn.as_str(), role.session_name.as_str(), role.seconds), ("r", "pod", 3600));
        assert_eq!((provider_arn.as_str(), token_file.to_str()), ("p", Some("/t")));
    }

    #[test]
    fn endpoints_follow_the_variables() {
        let variables = [
            ("ALIBABA_CLOUD_STS_REGION", "cn-beijing"),
            ("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED", "True"),
            ("ALIBABA_CLOUD_IMDSV1_DISABLED", "true"),
        ];
        let found = with(&variables, endpoints).unwrap();
        assert_eq!(found.sts_of(&Role::new("a")).unwrap(), "https://sts-vpc.cn-beijing.aliyuncs.com");
        assert!(!found.metadata_v1);
        let leaky = with(&[(STS_ENDPOINT, "http://user:canary@sts.example.com")], endpoints).unwrap_err();
        assert!(!leaky.to_string().contains("canary"), "{leaky}");
    }
}
