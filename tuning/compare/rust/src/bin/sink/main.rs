//! A store that every client accepts, and that costs as little as a store can: it answers the multipart calls of OSS and
//! of S3, believes every signature, and throws the bodies away.
//!
//!     sink [--verify] [--tls-cert FILE --tls-key FILE]
//!
//! It prints its address and serves until it is killed. Plain bodies are discarded in the kernel (`MSG_TRUNC`): not a
//! byte of them is copied. With `--verify` they are read, and their CRC64 is returned as OSS does, so that what clients
//! compare is compared. What it kept of an object can be asked by HEAD: its length, its CRC64 if known, and of its last
//! part the sums that came with it (`x-sink-sums`) and the cipher suite (`x-sink-cipher`).

mod http;
mod objects;
mod transport;

use std::error::Error;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use objects::Objects;
use transport::Transport;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1));
    let tls = match (value("--tls-cert"), value("--tls-key")) {
        (Some(cert), Some(key)) => Some(Arc::new(server_config(cert.as_ref(), key.as_ref())?)),
        _ => None,
    };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    println!("{scheme}://{}", listener.local_addr()?);
    let objects = Arc::new(Objects::new(arguments.iter().any(|a| a == "--verify")));
    for stream in listener.incoming() {
        let (stream, tls, objects) = (stream?, tls.clone(), objects.clone());
        // A client that goes away in the middle ends its thread and nothing else.
        thread::spawn(move || serve(stream, tls, &objects));
    }
    Ok(())
}

fn serve(stream: TcpStream, tls: Option<Arc<ServerConfig>>, objects: &Objects) -> io::Result<()> {
    stream.set_nodelay(true)?;
    http::serve(Transport::new(stream, tls)?, objects)
}

fn server_config(cert: &Path, key: &Path) -> Result<ServerConfig, Box<dyn Error>> {
    let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<_, _>>()?;
    Ok(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?)
}
