//! Who asks.

use std::fmt;

use zeroize::Zeroizing;

/// An access key. The secret and the token are wiped from memory when dropped and never shown.
#[derive(Clone)]
pub struct Credentials {
    pub access_key_id: String,
    pub access_key_secret: Zeroizing<String>,
    /// Token of temporary credentials (STS).
    pub session_token: Option<Zeroizing<String>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}
