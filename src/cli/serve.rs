//! `haul serve`: the embedded OSS on its own.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use haul::error::Error;
use haul::model::object::Bucket;
use haul::os::{self, threads};
use haul::server::{
    AccessKey, Config, FaultRule, FaultSettings, LogTarget, Server, ServerError, Shape, StoreKind, Tls,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use zeroize::Zeroizing;

use super::exit::{Failure, OTHER};
use super::report::print;
use super::signals::Stop;
use super::{file, output, panics};

/// Where the secret comes from: never from the command line, which every user of the machine can read.
const SECRET: &str = "OSS_ACCESS_KEY_SECRET";
/// Makes the key a temporary one.
const TOKEN: &str = "OSS_SESSION_TOKEN";

const EXAMPLES: &str = "\
Examples:

  Point ossutil at it (version 1.7; an address as endpoint means that the bucket is in the path):
    OSS_ACCESS_KEY_SECRET=secret haul serve --store dir:./objects --access-key-id me --bucket demo
    ossutil cp backup.tar oss://demo/ -e http://127.0.0.1:9000 -i me -k secret

  Point a Python SDK at it, and look at http://127.0.0.1:9000/_haul/ meanwhile:
    OSS_ACCESS_KEY_SECRET=secret haul serve --store memory --access-key-id me --bucket demo --status
    bucket = oss2.Bucket(oss2.AuthV4('me', 'secret'), 'http://127.0.0.1:9000', 'demo',
                         region='cn-hangzhou', is_path_style=True)
    oss2.resumable_upload(bucket, 'backup.tar', 'backup.tar')

  Make it fail: a tenth of the parts, the same ones in every run, and the first answer to Complete:
    OSS_ACCESS_KEY_SECRET=secret haul serve --store memory --access-key-id me --bucket demo \\
      --seed 1 --fault 'UploadPart:10%:reset-within' \\
      --fault 'CompleteMultipartUpload:#1:lose-answer'";

/// Serve objects over the protocol of Alibaba Cloud OSS, from a directory or from memory.
///
/// The secret of the access key is taken from the environment variable OSS_ACCESS_KEY_SECRET; if OSS_SESSION_TOKEN is
/// set too, the key is a temporary one that every request must show this token with. The server prints its address
/// and a `haul put` line that works with it, then answers until it is interrupted.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, after_long_help = EXAMPLES)]
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

    /// Write one JSON line for every request to this file; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,

    /// Show what is stored and under way at /_haul/, to this machine only.
    #[arg(long)]
    status: bool,

    /// Look like a distant or busy service: parameters such as `rtt=60ms,connection-rate=12MB/s`, or a file with them
    /// (tuning/profiles has five).
    ///
    /// rtt (time there and back), connection-rate and total-rate (each way; MB/s or Gbit/s), requests-per-second and
    /// requests-in-flight (more are refused with 503), slow-share and slow-factor (1% of requests 10 times slower; seed
    /// chooses which), initial-window (bytes of a new connection's first round trip, doubled in each one after it).
    #[arg(long, value_name = "SPEC|FILE", value_parser = parse_shape)]
    shape: Option<Shape>,

    /// Accept every request without looking at its signature. Only on a loopback address.
    #[arg(long)]
    no_auth: bool,

    #[command(flatten)]
    faults: FaultArgs,
}

/// What goes wrong on demand.
#[derive(Debug, Args)]
#[command(next_help_heading = "Faults")]
struct FaultArgs {
    /// Make something go wrong: OPERATIONS:WHEN:FAULT[,PARAMETER=VALUE...]; may be given several times. OPERATIONS are
    /// names such as UploadPart joined with commas, any, read, write, multipart, or connect; WHEN is always, a share
    /// (10%), a number (#3, #2-4) or every5; a wrong FAULT is answered with the list of all.
    #[arg(long = "fault", value_name = "RULE")]
    rules: Vec<FaultRule>,

    /// More rules, one a line; read again whenever the file changes.
    #[arg(long, value_name = "FILE")]
    fault_file: Option<PathBuf>,

    /// Chooses which requests a share harms; the same seed harms the same ones.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,

    /// Append one JSON line for each fault to this file.
    #[arg(long, value_name = "FILE")]
    fault_log: Option<PathBuf>,
}

impl FaultArgs {
    fn settings(&self) -> FaultSettings {
        FaultSettings {
            rules: self.rules.clone(),
            file: self.fault_file.clone(),
            seed: self.seed,
            log: self.fault_log.clone(),
        }
    }
}

/// Why `haul serve` ended, named by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Set the variable.
    #[error("set {SECRET} to the secret of the access key, or use --no-auth on a loopback address")]
    NoSecret,
    /// Check the files of --tls-cert and --tls-key.
    #[error("cannot read {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// Choose another file for the log.
    #[error("cannot write the log {}: {source}", path.display())]
    Log { path: PathBuf, source: io::Error },
    /// See there.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Allow this process more threads, or memory for them.
    #[error("no threads: {0}")]
    Threads(io::Error),
    /// Something is wrong with this process: its threads, signals or standard output.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Threads(cause) => Error::threads(cause).into(),
            // Another directory is a matter of the command; what is wrong within the right one is not.
            ServeError::Server(ServerError::Store(ref cause))
                if !matches!(cause.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::ResourceBusy) =>
            {
                Self::new(OTHER, error.to_string())
            }
            ServeError::Io(_) => Self::new(OTHER, error.to_string()),
            _ => Self::usage(error.to_string()),
        }
    }
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

/// What has a `=` is a list of parameters, everything else the name of a file.
pub fn parse_shape(text: &str) -> Result<Shape, String> {
    let shape = if text.contains('=') {
        text.parse()
    } else {
        let profile = file::read_text(text.as_ref()).map_err(|error| format!("cannot read it as a file: {error}"))?;
        Shape::from_toml(&profile)
    };
    shape.map_err(|error| error.to_string())
}

/// Serves until a signal asks for the end.
///
/// # Errors
/// See [`ServeError`]; a server that was asked to end did not fail.
pub fn run(args: &ServeArgs) -> Result<(), ServeError> {
    let secret = std::env::var(SECRET).ok().filter(|secret| !secret.is_empty()).map(Zeroizing::new);
    check_logs(args)?;
    let config = config(args, secret)?;
    take_all_descriptors();
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    threads::runtime(cores, "haul-serve").map_err(ServeError::Threads)?.block_on(serve(args, config))
}

async fn serve(args: &ServeArgs, config: Config) -> Result<(), ServeError> {
    let mut stop = Stop::listen().map_err(io::Error::other)?;
    let server = Server::bind(config).await?;
    announce(args, &server)?;
    panics::survive();
    server.run(stop.asked()).await;
    Ok(())
}

/// A connection is a descriptor, and the usual limit is 1024 of them. Whoever set a hard limit meant that one.
fn take_all_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn config(args: &ServeArgs, secret: Option<Zeroizing<String>>) -> Result<Config, ServeError> {
    let access_keys = match (&args.access_key_id, secret) {
        _ if args.no_auth => Vec::new(),
        (Some(id), Some(secret)) => {
            let security_token = std::env::var(TOKEN).ok().filter(|token| !token.is_empty()).map(Zeroizing::new);
            vec![AccessKey { id: id.clone(), secret, security_token, token_expires: None }]
        }
        _ => return Err(ServeError::NoSecret),
    };
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificates), Some(key)) => {
            Some(Tls { certificates_pem: read_pem(certificates)?.to_vec(), key_pem: read_pem(key)? })
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
        faults: args.faults.settings(),
        access_log: args.access_log.as_ref().map(|path| match path.as_os_str() == "-" {
            true => LogTarget::Stdout,
            false => LogTarget::File(path.clone()),
        }),
        status: args.status,
        shape: args.shape.clone(),
        ..Config::default()
    })
}

fn read_pem(path: &Path) -> Result<Zeroizing<Vec<u8>>, ServeError> {
    file::read_pem(path).map_err(|source| ServeError::File { path: path.to_owned(), source })
}

/// A log is appended to whatever it is; what the server reads is not to become one.
fn check_logs(args: &ServeArgs) -> Result<(), ServeError> {
    let inputs = [&args.tls_cert, &args.tls_key, &args.faults.fault_file];
    let inputs: Vec<_> = inputs.into_iter().filter_map(Option::as_deref).collect();
    let logs = [args.access_log.as_deref().filter(|path| *path != Path::new("-")), args.faults.fault_log.as_deref()];
    for path in logs.into_iter().flatten() {
        os::output::check(path, &inputs).map_err(|source| ServeError::Log { path: path.to_owned(), source })?;
    }
    Ok(())
}

/// Lines on standard output: the address, what to type next, and where to look. Scripts may wait for the first two.
fn announce(args: &ServeArgs, server: &Server) -> io::Result<()> {
    let url = server.url();
    let bucket = args.buckets.first().map_or("BUCKET", |bucket| bucket.as_str());
    let id = args.access_key_id.as_deref().filter(|_| !args.no_auth).unwrap_or("any");
    let secret = if args.no_auth { "any".to_owned() } else { format!("\"${SECRET}\"") };
    let ca = args.tls_cert.as_ref().map_or(String::new(), |path| format!(" --ca-cert {}", path.display()));
    print(format_args!("listening on {url}"));
    print(format_args!(
        "OSS_ACCESS_KEY_ID={id} {SECRET}={secret} haul put FILE oss://{bucket}/ --endpoint {url} --region {}{ca}",
        args.region
    ));
    if args.status {
        print(format_args!("status page: {url}/_haul/"));
    }
    output::lost().map_or(Ok(()), Err)
}
