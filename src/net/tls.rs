//! Whom to trust: the system's certificates, or those of one file. Names are always checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{CipherSuite, ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use super::verifier::{Verifier, is_authority};
use crate::model::retry::FaultKind;

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

/// How TLS is spoken to servers. Sessions are resumed across the connections that share it.
#[derive(Clone)]
pub struct ClientTls {
    pub(super) config: Arc<ClientConfig>,
    /// Whether those who are trusted were named, and are not the system's.
    pub(super) own_authorities: bool,
}

/// A configuration for HTTP/1.1 over TLS 1.2 or 1.3.
///
/// - `settings`: name the authorities to trust instead of the system's.
pub fn client_config(settings: &ClientSettings) -> Result<ClientTls, TlsError> {
    let (roots, certificates) = match (&settings.ca_cert, &settings.ca_pem) {
        (Some(path), Some(pem)) => roots_of(path, pem)?,
        (Some(path), None) => roots_of(path, &read_pem(path)?)?,
        (None, _) => system_roots()?,
    };
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| !is_aes_128(suite.suite()));
    let provider = Arc::new(provider);
    let verifier =
        Verifier::new(roots, certificates, provider.clone()).map_err(|e| rustls::Error::General(e.to_string()))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(ClientTls { config: Arc::new(config), own_authorities: settings.ca_cert.is_some() })
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

/// The first thing that is said to a server that may speak TLS.
pub(super) fn client_hello(host: &str) -> Option<Vec<u8>> {
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut hello = Vec::new();
    ClientConnection::new(Arc::new(config), name).ok()?.write_tls(&mut hello).ok()?;
    Some(hello)
}

/// Why a server is not to be spoken to, or `None` if TLS failed for another reason and may succeed later.
///
/// - `own_authorities`: those who are trusted were named.
pub(super) fn distrust(error: &rustls::Error, own_authorities: bool) -> Option<(FaultKind, &'static str)> {
    use rustls::{AlertDescription as Alert, CertificateError as Wrong, Error};
    let unknown = if own_authorities { FaultKind::Untrusted } else { FaultKind::UnknownAuthority };
    let why = match error {
        Error::InvalidCertificate(Wrong::NotValidForNameContext { presented, .. }) if presented.is_empty() => {
            "its certificate is for no name: it has no subjectAltName, and CN counts for nothing"
        }
        Error::InvalidCertificate(Wrong::NotValidForName | Wrong::NotValidForNameContext { .. }) => {
            "its certificate is for another name: somebody else answers, or the endpoint is not written as it is there"
        }
        Error::InvalidCertificate(Wrong::Expired | Wrong::ExpiredContext { .. }) => {
            "its certificate has expired, or the clock of this machine is wrong"
        }
        Error::InvalidCertificate(Wrong::NotValidYet | Wrong::NotValidYetContext { .. }) => {
            "its certificate is not valid yet, or the clock of this machine is wrong"
        }
        Error::InvalidCertificate(Wrong::UnknownIssuer | Wrong::BadSignature) if own_authorities => {
            "its certificate is not one of an authority that is trusted here: the file that was named holds neither its \
             issuer nor itself"
        }
        Error::InvalidCertificate(Wrong::UnknownIssuer | Wrong::BadSignature) => {
            return Some((unknown, "its certificate is not one of an authority that is trusted here"));
        }
        Error::InvalidCertificate(wrong) if is_authority(wrong) => {
            let why =
                "its certificate is that of an authority (CA:TRUE), and not itself among those that are trusted here";
            return Some((unknown, why));
        }
        Error::InvalidCertificate(_) => "its certificate cannot be accepted",
        Error::PeerIncompatible(_)
        | Error::AlertReceived(Alert::ProtocolVersion | Alert::HandshakeFailure | Alert::InsufficientSecurity) => {
            "haul speaks TLS 1.2 and 1.3 with their usual ciphers, and the server does not"
        }
        Error::AlertReceived(Alert::NoApplicationProtocol) => "haul speaks HTTP/1.1, and the server HTTP/2 only",
        Error::AlertReceived(Alert::UnrecognisedName) => "the server does not know the name that it was called by",
        Error::AlertReceived(Alert::CertificateRequired | Alert::AccessDenied) => {
            "the server wants a certificate of its clients, and haul has none"
        }
        Error::InvalidMessage(_) => "the answer is not TLS: a port for plain HTTP (http://), or somebody in between",
        Error::PeerMisbehaved(_) => "the server breaks the rules of TLS: somebody in between",
        _ => return None,
    };
    Some((FaultKind::Untrusted, why))
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

/// Those who are trusted: as authorities, and for themselves.
type Trusted = (RootCertStore, Vec<CertificateDer<'static>>);

fn roots_of(path: &Path, pem: &[u8]) -> Result<Trusted, TlsError> {
    let refused = |why: String| TlsError::File { path: path.to_owned(), why };
    let (mut roots, mut certificates) = (RootCertStore::empty(), Vec::new());
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| refused(e.to_string()))?;
        roots.add(certificate.clone()).map_err(|e| refused(e.to_string()))?;
        certificates.push(certificate);
    }
    if roots.is_empty() { Err(refused("it holds no certificate".into())) } else { Ok((roots, certificates)) }
}

fn system_roots() -> Result<Trusted, TlsError> {
    let mut roots = RootCertStore::empty();
    let certificates = rustls_native_certs::load_native_certs().certs;
    let (added, _) = roots.add_parsable_certificates(certificates.iter().cloned());
    if added == 0 { Err(TlsError::NoRoots) } else { Ok((roots, certificates)) }
}
