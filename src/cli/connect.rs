//! Which store, and who asks: from what was typed, the environment and ossutil's configuration file.
//!
//! Endpoint: `--endpoint`, the file of `--config`, `HAUL_ENDPOINT`, `OSS_ENDPOINT`, `~/.ossutilconfig`; at last the one of the
//! region that a file names. Region: `--region`, the file of `--config`, `OSS_REGION`, `~/.ossutilconfig`. Credentials: see
//! [`haul::store::credentials::chain`]. Empty variables count as unset. Every file is read once.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use haul::client::{Client, Keyring};
use haul::error::Error;
use haul::model::object::Bucket;
use haul::model::settings::{Addressing, ClientSettings, Proxy, Signature};
use haul::net::tls;
use haul::server::Shape;
use haul::store::Store;
use haul::store::credentials::Credentials;
use haul::store::credentials::chain::{Ossutil, Surroundings, choose};
use haul::store::credentials::ossutil::OssutilConfig;
use haul::store::credentials::source::{Provider, Source};

use super::args::{self, Connect};
use super::exit::{CREDENTIALS, Failure, SOURCE};
use super::file;
use super::local::{self, Local};
use super::report;

/// What to do about a source of credentials that gives none.
pub const SOURCES: &str = "the README, under Credentials, has the sources in the order in which they are tried";

/// A client, and the embedded store if that is what it speaks to.
pub struct Connection {
    pub client: Client,
    _local: Option<Local>,
}

/// A store that can be reached: what every client of it shares.
pub struct Place {
    pub settings: ClientSettings,
    pub keyring: Arc<Keyring>,
    /// The embedded store, if that is what it is.
    local: Option<Local>,
}

impl Place {
    /// A client with connections and threads of its own; nothing is sent.
    ///
    /// # Errors
    /// As [`Client::with_keyring`].
    pub fn client(&self, threads: usize) -> Result<Client, Error> {
        Client::with_keyring(ClientSettings { threads, ..self.settings.clone() }, self.keyring.clone())
    }

    /// `scheme://host[:port]`, which names the place in every run; `None` for a store that lives in this process.
    pub fn endpoint(&self) -> Option<String> {
        if self.local.is_some() { None } else { Store::new(&self.settings).ok().map(|s| s.endpoint().to_owned()) }
    }
}

/// A runtime that only waits: the client's own threads do the work.
pub fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    haul::os::threads::waiting().map_err(|cause| Error::System { what: "start the runtime", cause })
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
    let place = place(typed, bucket)?;
    let client = place.client(place.settings.threads)?;
    Ok(Connection { client, _local: place.local })
}

/// The store that was typed or is configured, with the key that is.
///
/// # Errors
/// As [`connect`].
pub fn place(typed: &Connect, bucket: &Bucket) -> Result<Place, Failure> {
    let ossutil = ossutil(typed)?;
    let (endpoint, cname) = endpoint(typed, ossutil.as_ref(), bucket)?;
    let mut settings = settings(typed, ossutil.as_ref(), endpoint.clone())?;
    if cname {
        settings.addressing.get_or_insert(Addressing::Cname);
    }
    if let Some(directory) = endpoint.strip_prefix("local:") {
        let (local, key) = local::start(Path::new(directory), bucket, &mut settings)?;
        return own(local, key, settings);
    }
    let keyring = Arc::new(keyring(ossutil.as_ref(), &settings)?);
    Ok(Place { settings, keyring, local: None })
}

/// A store in this process that keeps nothing and looks as far away and as busy as `shape` says.
///
/// # Errors
/// Exit code 1 if it cannot be started.
pub fn shaped(typed: &Connect, shape: Shape, bucket: &Bucket) -> Result<Place, Failure> {
    let mut settings = settings(typed, None, String::new())?;
    let (local, key) = local::start_shaped(shape, bucket, &mut settings)?;
    own(local, key, settings)
}

fn own(local: Local, key: Credentials, settings: ClientSettings) -> Result<Place, Failure> {
    let provider = Provider::new("key of the embedded store", Source::Key(key));
    let keyring = Arc::new(Keyring::new(provider, &settings)?);
    Ok(Place { settings, keyring, local: Some(local) })
}

/// What the source that wins gives; warns if a file that holds a secret can be read by others. Nothing is asked yet.
///
/// # Errors
/// Exit code 4 without a source that is configured and in order.
pub fn keyring(ossutil: Option<&Ossutil>, settings: &ClientSettings) -> Result<Keyring, Failure> {
    let from = Surroundings { variable: &env, read: &file::read_text, ossutil };
    let provider =
        choose(&from).map_err(|e| Failure { hint: Some(SOURCES), ..Failure::new(CREDENTIALS, e.to_string()) })?;
    if let Some(path) = provider.secret_file.as_deref().filter(|path| others_may_read(path)) {
        let path = path.display();
        report::warn(format_args!("haul: warning: {path} holds a secret and others can read it: chmod 600 {path}"));
    }
    Ok(Keyring::new(provider, settings)?)
}

fn others_may_read(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o044 != 0)
}

/// The endpoint, and whether it is a domain bound to the bucket.
fn endpoint(typed: &Connect, ossutil: Option<&Ossutil>, bucket: &Bucket) -> Result<(String, bool), Failure> {
    let plain = |endpoint: Option<String>| endpoint.map(|endpoint| (endpoint, false));
    let of_file = |is_named| {
        let (endpoint, cname) = configured(ossutil, is_named)?.endpoint(bucket.as_str())?;
        Some((endpoint.to_owned(), cname))
    };
    let of_region = || {
        let region = configured(ossutil, true).or(configured(ossutil, false))?.region()?;
        Some(format!("oss-{}.aliyuncs.com", region.strip_prefix("oss-").unwrap_or(region)))
    };
    let found = plain(typed.endpoint.clone())
        .or_else(|| of_file(true))
        .or_else(|| plain(env("HAUL_ENDPOINT").or_else(|| env("OSS_ENDPOINT"))))
        .or_else(|| of_file(false))
        .or_else(|| plain(of_region()));
    found.ok_or_else(|| match ossutil.map(|file| (&file.path, &file.config)) {
        Some((path, Err(e))) => Failure::new(CREDENTIALS, format!("no endpoint, and {}: {e}", path.display())),
        _ => Failure::usage(
            "no endpoint: use --endpoint, HAUL_ENDPOINT or OSS_ENDPOINT (or --endpoint local:DIR to try haul)",
        ),
    })
}

/// What the file says that `--config` names (`is_named`), or the one of the home directory.
fn configured(ossutil: Option<&Ossutil>, is_named: bool) -> Option<&OssutilConfig> {
    ossutil.filter(|file| file.is_named == is_named)?.config.as_ref().ok()
}

/// # Errors
/// Exit code 2 for a file of authorities that cannot be read.
pub fn settings(typed: &Connect, ossutil: Option<&Ossutil>, endpoint: String) -> Result<ClientSettings, Failure> {
    let mut settings = ClientSettings::new(endpoint);
    let region = |is_named| configured(ossutil, is_named)?.region().map(str::to_owned);
    settings.region =
        typed.region.clone().or_else(|| region(true)).or_else(|| env("OSS_REGION")).or_else(|| region(false));
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
    settings.ca_pem = typed.ca_cert.as_deref().map(tls::read_pem).transpose().map_err(Error::from)?;
    settings.proxy = typed.proxy.clone().map_or(Proxy::Environment, |proxy| Proxy::Url(proxy.0));
    settings.connect_timeout = typed.connect_timeout;
    settings.idle_timeout = typed.idle_timeout;
    settings.retry.attempts = typed.attempts;
    if let Some(threads) = typed.threads {
        settings.threads = threads.into();
    }
    Ok(settings)
}

/// Files that options of `typed` name, or that are read for want of one: outputs must not replace them.
pub fn inputs(typed: &Connect) -> Vec<PathBuf> {
    let home = env("HOME").map(|home| PathBuf::from(home).join(".ossutilconfig"));
    [typed.config.clone().or(home), typed.ca_cert.clone()].into_iter().flatten().collect()
}

/// The file of `--config`, which must be there, or `~/.ossutilconfig`, which need not.
///
/// # Errors
/// Exit code 3 if the one that was named cannot be read, 4 if it is not understood.
pub fn ossutil(typed: &Connect) -> Result<Option<Ossutil>, Failure> {
    let found = Ossutil::find(typed.config.as_deref(), &env, &file::read_text).map_err(|cause| {
        let path = typed.config.as_deref().unwrap_or(Path::new("~/.ossutilconfig")).display();
        Failure::new(SOURCE, format!("cannot read {path}: {cause}"))
    })?;
    match &found {
        Some(Ossutil { path, is_named: true, config: Err(e) }) => {
            Err(Failure { hint: Some(SOURCES), ..Failure::new(CREDENTIALS, format!("{}: {e}", path.display())) })
        }
        _ => Ok(found),
    }
}
