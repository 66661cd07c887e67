//! HTTPS is served with the certificate that was given.

use std::io::{BufRead, BufReader};
use std::sync::Arc;

use crate::server_support::*;
use haul::server::{StoreKind, Tls};

#[test]
fn https_is_served_with_the_given_certificate() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let mut config = config(StoreKind::Memory);
    let certificates_pem = made.cert.pem().into_bytes();
    config.tls = Some(Tls { certificates_pem, key_pem: made.signing_key.serialize_pem().into_bytes().into() });
    let server = try_start(config).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
    let socket = std::net::TcpStream::connect(server.address).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, socket);
    let put = call("PUT", "k").body("secret");
    std::io::Write::write_all(&mut stream, format!("{}secret", put.head(server.address)).as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 200 OK\r\n");
}

#[test]
fn a_certificate_that_is_none_is_refused() {
    let mut config = config(StoreKind::Memory);
    config.tls = Some(Tls { certificates_pem: b"not pem".to_vec(), key_pem: b"not pem".to_vec().into() });
    assert!(matches!(try_start(config).err(), Some(haul::server::ServerError::Tls(_))));
}
