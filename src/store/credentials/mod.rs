//! Who asks: an access key, and where it may come from.
//!
//! | file | subject |
//! |---|---|
//! | `chain.rs` | which source is the one, in a documented order |
//! | `source.rs` | sources as data: what is to be asked, and of whom |
//! | `environment.rs`, `ossutil.rs`, `aliyun.rs`, `alibabacloud.rs` | what variables and files say |
//! | `sts.rs`, `instance_role.rs`, `answer.rs` | requests that give temporary credentials, and their answers |
//!
//! Time, nonces, texts of files and values of variables are arguments: who keeps credentials fresh is the engine's keyring.

use std::fmt;
use std::time::SystemTime;

use zeroize::Zeroizing;

pub mod alibabacloud;
pub mod aliyun;
pub mod answer;
pub mod chain;
pub mod environment;
mod ini_text;
pub mod instance_role;
pub mod ossutil;
pub mod source;
pub mod sts;

/// An access key. The secret and the token are wiped from memory when dropped and never shown.
#[derive(Clone)]
pub struct Credentials {
    pub access_key_id: String,
    pub access_key_secret: Zeroizing<String>,
    /// Token of temporary credentials (STS).
    pub session_token: Option<Zeroizing<String>>,
    /// When they end. `None`: never, or nobody said.
    pub expires: Option<SystemTime>,
}

impl Credentials {
    /// A key without token that does not end.
    pub fn new(access_key_id: impl Into<String>, access_key_secret: impl Into<String>) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            access_key_secret: Zeroizing::new(access_key_secret.into()),
            session_token: None,
            expires: None,
        }
    }

    /// Checks that an HTTP header can carry id and token.
    ///
    /// # Errors
    /// [`CredentialsError::Unprintable`] if not; the value is not shown.
    pub fn checked(self) -> Result<Self, CredentialsError> {
        let carried = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if !carried(&self.access_key_id) {
            return Err(CredentialsError::Unprintable("access key id"));
        }
        if self.session_token.as_ref().is_some_and(|token| !carried(token)) {
            return Err(CredentialsError::Unprintable("session token"));
        }
        Ok(self)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// Why a source of credentials gives none. Never carries a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// Set the missing one, or unset the other.
    #[error("{found} is set but {missing} is not")]
    Half { found: String, missing: String },
    /// Give it without blanks and line breaks.
    #[error("the {0} holds characters that an HTTP header cannot carry")]
    Unprintable(&'static str),
    /// Correct the file.
    #[error("the configuration file cannot be read: {0}")]
    Malformed(String),
    /// Correct the file, or name another.
    #[error("it is not understood: {0}")]
    NotUnderstood(&'static str),
    /// Use a mode that is supported.
    #[error("mode {0} is not supported: use one of {1}")]
    Mode(String, &'static str),
    /// Add it.
    #[error("mode {mode} needs {missing}")]
    Lacks { mode: &'static str, missing: &'static str },
    /// Correct the name, or add the profile.
    #[error("there is no profile {0}")]
    NoProfile(String),
    /// Let the chain of source profiles end.
    #[error("the source profiles of {0} go round in a circle, or are more than {1}")]
    Endless(String, usize),
    /// Correct the address. It is not shown: it may hold a token.
    #[error("{0} is not an address that may be asked for credentials")]
    Address(&'static str),
    /// Allow the metadata server, or name another source.
    #[error("the instance role is asked for, but ALIBABA_CLOUD_ECS_METADATA_DISABLED forbids it")]
    MetadataDisabled,
    /// Correct the source, or unset it.
    #[error("{name}: {error}")]
    Source { name: String, error: Box<CredentialsError> },
    /// Configure one.
    #[error("no credentials: set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET, or use --config FILE")]
    Nowhere,
}

impl CredentialsError {
    /// The same, with the source that it is about.
    fn of(self, name: impl Into<String>) -> Self {
        Self::Source { name: name.into(), error: Box::new(self) }
    }
}

/// Puts id, secret and token together, where each may be missing.
fn assemble(
    [id, secret]: [(&str, Option<String>); 2],
    token: Option<String>,
) -> Result<Option<Credentials>, CredentialsError> {
    let half = |found: &str, missing: &str| CredentialsError::Half { found: found.into(), missing: missing.into() };
    match (id, secret) {
        ((_, None), (_, None)) => Ok(None),
        ((name, Some(_)), (missing, None)) | ((missing, None), (name, Some(_))) => Err(half(name, missing)),
        ((_, Some(id)), (_, Some(secret))) => {
            let session_token = token.map(Zeroizing::new);
            Credentials { session_token, ..Credentials::new(id, secret) }.checked().map(Some)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let credentials = Credentials {
            session_token: Some(Zeroizing::new("canary-token".into())),
            ..Credentials::new("id", "canary-secret")
        };
        assert!(!format!("{credentials:?} {credentials:#?}").contains("canary"));
    }

    #[test]
    fn an_id_that_no_header_can_carry_is_refused_without_showing_it() {
        let error = Credentials::new("id\r\nx: y", "s").checked().unwrap_err();
        assert!(!error.to_string().contains("x: y"));
    }
}
