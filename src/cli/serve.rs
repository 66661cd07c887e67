//! `haul serve`: the embedded OSS on its own.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use haul::model::object::Bucket;
use haul::server::{AccessKey, Config, Server, ServerError, StoreKind, Tls};
use zeroize::Zeroizing;

/// Where the secret comes from: never from the command line, which every user of the machine can read.
const SECRET: &str = "OSS_ACCESS_KEY_SECRET";

/// Serve objects over the protocol of Alibaba Cloud OSS, from a directory or from memory.
///
/// The secret of the access key is taken from the environment variable OSS_ACCESS_KEY_SECRET. The server prints its
/// address and a `haul put` line that works with it, then answers until it is interrupted.
///
/// Example:
///   OSS_ACCESS_KEY_SECRET=secret haul serve --store dir:./objects --access-key-id me --bucket demo
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ServeArgs {
    /// Where objects are kept: `dir:DIR` (durable), `memory` (until the server ends), or `null` (sizes and checksums
    /// only, to measure clients).
    #[arg(long, value_name = "dir:DIR|memory|null", value_parser = StoreArg::from_str)]
    store: StoreArg,

    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,

    /// Access key id that clients sign with.
    #[arg(long, value_name = "ID", env = "OSS_ACCESS_KEY_ID", required_unless_present = "no_auth")]
    access_key_id: Option<String>,

    /// Region that clients must sign for.
    #[arg(long, value_name = "REGION", default_value = "cn-hangzhou")]
    region: String,

    /// Bucket to make unless it exists; may be given several times.
    #[arg(long = "bucket", value_name = "NAME", value_parser = parse_bucket)]
    buckets: Vec<Bucket>,

    /// Domain whose subdomains are buckets: BUCKET.DOMAIN. Every other host has the bucket in the path.
    #[arg(long, value_name = "DOMAIN", default_value = "localhost")]
    base_domain: String,

    /// Certificate chain (PEM) to serve HTTPS with.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key (PEM) of the certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Accept every request without looking at its signature. Only on a loopback address.
    #[arg(long)]
    no_auth: bool,
}

/// Why `haul serve` ended, named by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Set the variable.
    #[error("set {SECRET} to the secret of the access key, or use --no-auth on a loopback address")]
    NoSecret,
    /// Check the files of --tls-cert and --tls-key.
    #[error("cannot read {}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// See there.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Something is wrong with this process: its threads, signals or standard output.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

#[derive(Debug, Clone)]
struct StoreArg(StoreKind);

impl FromStr for StoreArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("dir:") {
            Some("") => Err("dir: needs the name of a directory".to_owned()),
            Some(dir) => Ok(Self(StoreKind::Dir(dir.into()))),
            None if text == "memory" => Ok(Self(StoreKind::Memory)),
            None if text == "null" => Ok(Self(StoreKind::Null)),
            None => Err("write dir:DIR, memory or null".to_owned()),
        }
    }
}

fn parse_bucket(name: &str) -> Result<Bucket, String> {
    Bucket::new(name).map_err(|error| error.to_string())
}

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// See [`ServeError`]; a server that was asked to end did not fail.
pub fn run(args: &ServeArgs) -> Result<(), ServeError> {
    let secret = std::env::var(SECRET).ok().filter(|secret| !secret.is_empty()).map(Zeroizing::new);
    let config = config(args, secret)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(args, config))
}

async fn serve(args: &ServeArgs, config: Config) -> Result<(), ServeError> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let server = Server::bind(config).await?;
    announce(args, &server)?;
    let ended = async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    };
    server.run(ended).await;
    Ok(())
}

fn config(args: &ServeArgs, secret: Option<Zeroizing<String>>) -> Result<Config, ServeError> {
    let access_keys = match (&args.access_key_id, secret) {
        _ if args.no_auth => Vec::new(),
        (Some(id), Some(secret)) => vec![AccessKey { id: id.clone(), secret, security_token: None }],
        _ => return Err(ServeError::NoSecret),
    };
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificates), Some(key)) => {
            Some(Tls { certificates_pem: read(certificates)?, key_pem: Zeroizing::new(read(key)?) })
        }
        _ => None,
    };
    Ok(Config {
        store: args.store.0.clone(),
        listen: args.listen,
        access_keys,
        region: args.region.strip_prefix("oss-").unwrap_or(&args.region).to_owned(),
        base_domain: args.base_domain.clone(),
        buckets: args.buckets.clone(),
        tls,
        anonymous: args.no_auth,
        ..Config::default()
    })
}

fn read(path: &PathBuf) -> Result<Vec<u8>, ServeError> {
    std::fs::read(path).map_err(|source| ServeError::File { path: path.clone(), source })
}

/// Two lines on standard output: the address, and what to type next. Scripts may wait for them.
fn announce(args: &ServeArgs, server: &Server) -> std::io::Result<()> {
    let url = server.url();
    let bucket = args.buckets.first().map_or("BUCKET", |bucket| bucket.as_str());
    let id = args.access_key_id.as_deref().filter(|_| !args.no_auth).unwrap_or("any");
    let secret = if args.no_auth { "any".to_owned() } else { format!("\"${SECRET}\"") };
    let ca = args.tls_cert.as_ref().map_or(String::new(), |path| format!(" --ca-cert {}", path.display()));
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening on {url}")?;
    writeln!(
        out,
        "OSS_ACCESS_KEY_ID={id} {SECRET}={secret} haul put FILE oss://{bucket}/ --endpoint {url} --region {}{ca}",
        args.region
    )?;
    out.flush()
}
