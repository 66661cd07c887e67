//! Which store, and who asks: from what was typed, the environment and ossutil's configuration file.
//!
//! Endpoint: `--endpoint`, `HAUL_ENDPOINT`, `OSS_ENDPOINT`, the file. Credentials: `OSS_*`, `ALIBABA_CLOUD_*`, the file;
//! a file named by `--config` comes first. Empty variables count as unset.

use std::path::{Path, PathBuf};

use haul::client::Client;
use haul::error::Error;
use haul::model::object::Bucket;
use haul::model::settings::{Addressing, ClientSettings, Proxy, Signature};
use haul::store::credentials::ossutil::OssutilConfig;
use haul::store::credentials::{Credentials, CredentialsError, environment};

use super::args::{self, Connect};
use super::exit::{CREDENTIALS, Failure, SOURCE};
use super::local::{self, Local};

/// A client, and the embedded store if that is what it speaks to.
pub struct Connection {
    pub client: Client,
    _local: Option<Local>,
}

/// A runtime that only waits: the client's own threads do the work.
pub fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|cause| Error::System { what: "start the runtime", cause })
}

/// Waits for `work`; the client's own threads do it.
pub fn wait<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    Ok(runtime()?.block_on(work)?)
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A client of the endpoint that was typed or is configured; nothing is sent.
///
/// # Errors
/// Exit code 2 without endpoint, 4 without credentials.
pub fn connect(typed: &Connect, bucket: &Bucket) -> Result<Connection, Failure> {
    let config = read_config(typed.config.as_deref())?;
    let (endpoint, cname) = endpoint(typed, &config, bucket)?;
    let mut settings = settings(typed, endpoint.clone());
    if cname {
        settings.addressing.get_or_insert(Addressing::Cname);
    }
    if let Some(directory) = endpoint.strip_prefix("local:") {
        let (local, credentials) = local::start(Path::new(directory), bucket, &mut settings)?;
        return Ok(Connection { client: Client::new(settings, Some(credentials))?, _local: Some(local) });
    }
    let credentials = credentials(typed, config)?;
    Ok(Connection { client: Client::new(settings, Some(credentials))?, _local: None })
}

fn endpoint(typed: &Connect, config: &OssutilConfig, bucket: &Bucket) -> Result<(String, bool), Failure> {
    let named = typed.endpoint.clone().or_else(|| env("HAUL_ENDPOINT")).or_else(|| env("OSS_ENDPOINT"));
    if let Some(endpoint) = named {
        return Ok((endpoint, false));
    }
    let configured = config.endpoint(bucket.as_str()).map(|(endpoint, cname)| (endpoint.to_owned(), cname));
    configured.ok_or_else(|| {
        Failure::usage(
            "no endpoint: use --endpoint, HAUL_ENDPOINT or OSS_ENDPOINT (or --endpoint local:DIR to try haul)",
        )
    })
}

fn settings(typed: &Connect, endpoint: String) -> ClientSettings {
    let mut settings = ClientSettings::new(endpoint);
    settings.region = typed.region.clone().or_else(|| env("OSS_REGION"));
    settings.signature = match typed.signature {
        args::Signature::V4 => Signature::V4,
        args::Signature::V1 => Signature::V1,
    };
    settings.addressing = typed.addressing.map(|addressing| match addressing {
        args::Addressing::Virtual => Addressing::Virtual,
        args::Addressing::Path => Addressing::Path,
        args::Addressing::Cname => Addressing::Cname,
    });
    settings.ca_cert = typed.ca_cert.clone();
    settings.proxy = typed.proxy.clone().map_or(Proxy::Environment, |proxy| Proxy::Url(proxy.0));
    settings.connect_timeout = typed.connect_timeout;
    settings.idle_timeout = typed.idle_timeout;
    settings.retry.attempts = typed.attempts;
    if let Some(threads) = typed.threads {
        settings.threads = threads.into();
    }
    settings
}

/// The file of `--config`, which must be there, or `~/.ossutilconfig`, which need not.
fn read_config(named: Option<&Path>) -> Result<OssutilConfig, Failure> {
    let default = || env("HOME").map(|home| PathBuf::from(home).join(".ossutilconfig"));
    let Some(path) = named.map(Path::to_owned).or_else(default) else { return Ok(OssutilConfig::default()) };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => zeroize::Zeroizing::new(text),
        Err(_) if named.is_none() => return Ok(OssutilConfig::default()),
        Err(cause) => return Err(Failure::new(SOURCE, format!("cannot read {}: {cause}", path.display()))),
    };
    OssutilConfig::parse(&text).map_err(|e| Failure::new(CREDENTIALS, format!("{}: {e}", path.display())))
}

fn credentials(typed: &Connect, config: OssutilConfig) -> Result<Credentials, Failure> {
    let refused = |e: CredentialsError| Failure::new(CREDENTIALS, e.to_string());
    let from_env = || environment::from(env).map_err(refused);
    let found = match (typed.config.is_some(), config.credentials) {
        (true, Some(credentials)) => Some(credentials),
        (_, configured) => from_env()?.or(configured),
    };
    found.ok_or_else(|| {
        Failure::new(
            CREDENTIALS,
            "no credentials: set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET, or use --config FILE",
        )
    })
}
