//! Whom to trust: the system's authorities, or those of one file. Names are always checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{CipherSuite, ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::model::settings::ClientSettings;
use crate::os::read::{CONFIG_BYTES_MAX, plain, read};

/// Why no TLS configuration could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Name a PEM file with at least one certificate.
    #[error("cannot use the certificates of {}: {why}", path.display())]
    File { path: PathBuf, why: String },
    /// Install the system's certificates or name a file.
    #[error("no certificate authority is known on this system: install ca-certificates, or name a file of your own")]
    NoRoots,
    /// The library refused the configuration.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// A configuration for HTTP/1.1 over TLS 1.2 or 1.3. Sessions are resumed across connections that share it.
///
/// - `settings`: name the authorities to trust instead of the system's.
pub fn client_config(settings: &ClientSettings) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match (&settings.ca_cert, &settings.ca_pem) {
        (Some(path), Some(pem)) => roots_of(path, pem)?,
        (Some(path), None) => roots_of(path, &read_pem(path)?)?,
        (None, _) => system_roots()?,
    };
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| !is_aes_128(suite.suite()));
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Offered first, as browsers do: ten rounds of AES instead of fourteen, and no attack is known on either.
fn is_aes_128(suite: CipherSuite) -> bool {
    use CipherSuite::{
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS13_AES_128_GCM_SHA256,
    };
    matches!(
        suite,
        TLS13_AES_128_GCM_SHA256 | TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 | TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}

/// Why a server is not to be spoken to, or `None` if the handshake failed for another reason and may succeed later.
pub(super) fn distrust(error: &rustls::Error) -> Option<&'static str> {
    use rustls::{AlertDescription as Alert, CertificateError as Wrong, Error};
    Some(match error {
        Error::InvalidCertificate(Wrong::NotValidForName | Wrong::NotValidForNameContext { .. }) => {
            "its certificate is for another name: somebody else answers, or the endpoint is not written as it is there"
        }
        Error::InvalidCertificate(Wrong::Expired | Wrong::ExpiredContext { .. }) => {
            "its certificate has expired, or the clock of this machine is wrong"
        }
        Error::InvalidCertificate(Wrong::NotValidYet | Wrong::NotValidYetContext { .. }) => {
            "its certificate is not valid yet, or the clock of this machine is wrong"
        }
        Error::InvalidCertificate(_) => "its certificate is not one of an authority that is trusted here",
        Error::PeerIncompatible(_)
        | Error::AlertReceived(Alert::ProtocolVersion | Alert::HandshakeFailure | Alert::InsufficientSecurity) => {
            "haul speaks TLS 1.2 and 1.3 with their usual ciphers, and the server does not"
        }
        Error::InvalidMessage(_) => "the answer is not TLS: a port for plain HTTP, or somebody in between",
        Error::PeerMisbehaved(_) => "the server breaks the rules of TLS: somebody in between",
        _ => return None,
    })
}

/// Reads a file of authorities, once.
///
/// # Errors
/// [`TlsError::File`] if it cannot be read, or is too large.
pub fn read_pem(path: &Path) -> Result<Arc<[u8]>, TlsError> {
    let read =
        read(path, CONFIG_BYTES_MAX).map_err(|e| TlsError::File { path: path.to_owned(), why: e.to_string() })?;
    Ok(plain(read).as_slice().into())
}

fn roots_of(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let refused = |why: String| TlsError::File { path: path.to_owned(), why };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| refused(e.to_string()))?;
        roots.add(certificate).map_err(|e| refused(e.to_string()))?;
    }
    if roots.is_empty() { Err(refused("it holds no certificate".into())) } else { Ok(roots) }
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 { Err(TlsError::NoRoots) } else { Ok(roots) }
}
