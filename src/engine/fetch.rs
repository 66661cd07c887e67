//! Asking sources for credentials: exchanges with STS and the metadata server, processes, files of tokens.

use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response};
use zeroize::Zeroizing;

use super::process;
use crate::model::retry::{Fault, FaultKind};
use crate::model::settings::{ClientSettings, Proxy};
use crate::net::connect::Connector;
use crate::net::pool::Pool;
use crate::net::tls::{self, TlsError};
use crate::net::{Transport, full};
use crate::os::read::read_text;
use crate::store::credentials::source::{Endpoints, Provider, Role, Source};
use crate::store::credentials::{Credentials, CredentialsError, answer, instance_role, sts};

/// Longest time for one exchange with STS or a credential URL, connecting included (credentials-go: 5 s and 10 s).
const EXCHANGE_LIMIT: Duration = Duration::from_secs(15);
/// Longest time for one exchange with the metadata server (specification, section 7.3).
const METADATA_LIMIT: Duration = Duration::from_secs(1);
/// Largest OIDC token that is believed, in bytes.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

/// Asks one provider.
pub(super) struct Fetcher {
    pub provider: Provider,
    /// To STS: as the client reaches its endpoint.
    far: Pool,
    /// To the metadata server and credential URLs: never through a proxy.
    near: Pool,
}

impl Fetcher {
    /// - `settings`: authorities, proxy and time to connect for STS.
    pub fn new(provider: Provider, settings: &ClientSettings) -> Result<Self, TlsError> {
        let tls = needs_tls(&provider.source).then(|| tls::client_config(settings)).transpose()?;
        let pool = |tls, proxy| {
            Pool::new(Connector::new(tls, proxy, settings.connect_timeout, EXCHANGE_LIMIT), EXCHANGE_LIMIT, None)
        };
        Ok(Self { provider, far: pool(tls.clone(), &settings.proxy), near: pool(tls, &Proxy::None) })
    }

    /// Asks now.
    ///
    /// # Errors
    /// A fault that names the source. It is passing if asking again may help.
    pub async fn fetch(&self) -> Result<Credentials, Fault> {
        self.ask(&self.provider.source).await.map_err(|fault| match self.provider.is_guess {
            true => refused(CredentialsError::Nowhere.to_string()),
            false => Fault { message: format!("{}: {}", self.provider.name, fault.message), ..fault },
        })
    }

    fn ask<'a>(&'a self, source: &'a Source) -> BoxFuture<'a, Result<Credentials, Fault>> {
        Box::pin(async move {
            match source {
                Source::Key(key) => Ok(key.clone()),
                Source::Role { role, asker } => self.role(role, self.ask(asker).await?).await,
                Source::Oidc { role, provider_arn, token_file } => self.oidc(role, provider_arn, token_file).await,
                Source::InstanceRole { name, at } => self.instance_role(name.as_deref(), at.as_deref()).await,
                Source::Process { command, limit } => {
                    let (command, limit) = (command.clone(), *limit);
                    answer::read(&on_thread(move || process::run(&command, limit)).await?)
                }
                Source::Uri(uri) => {
                    let request = answer::request(Method::GET, &uri.to_string(), Bytes::new())?;
                    answer::read(answer::body(&send(&self.near, request, EXCHANGE_LIMIT).await?)?)
                }
                Source::Function(function) => {
                    let function = function.clone();
                    on_thread(move || function().map_err(refused)).await
                }
            }
        })
    }

    async fn role(&self, role: &Role, asker: Credentials) -> Result<Credentials, Fault> {
        let at = self.sts(role)?;
        let request = sts::assume_role(&at, role, &asker, SystemTime::now(), &nonce())?;
        sts::read(&send(&self.far, request, EXCHANGE_LIMIT).await?)
    }

    async fn oidc(&self, role: &Role, provider_arn: &str, token_file: &Path) -> Result<Credentials, Fault> {
        let at = self.sts(role)?;
        let path = token_file.to_owned();
        let token = on_thread(move || read_token(&path)).await?;
        let now = SystemTime::now();
        let request = sts::assume_role_with_oidc(&at, role, provider_arn, token.trim(), now, &nonce())?;
        sts::read(&send(&self.far, request, EXCHANGE_LIMIT).await?)
    }

    /// By version 2 of the protocol; by version 1 where the server has no other and that is allowed.
    async fn instance_role(&self, name: Option<&str>, at: Option<&str>) -> Result<Credentials, Fault> {
        let Endpoints { metadata, metadata_v1, .. } = &self.provider.endpoints;
        let at = at.unwrap_or(metadata);
        let token = send(&self.near, instance_role::token_request(at)?, METADATA_LIMIT).await;
        let token = match token.and_then(|response| instance_role::token(&response)) {
            Ok(token) => Some(token),
            Err(_) if *metadata_v1 => None,
            Err(fault) => return Err(fault),
        };
        let asked = async |name: Option<&str>| {
            send(&self.near, instance_role::request(at, name, token.as_ref())?, METADATA_LIMIT).await
        };
        let name = match name {
            Some(name) => name.to_owned(),
            None => instance_role::name(&asked(None).await?)?,
        };
        instance_role::credentials(&asked(Some(&name)).await?)
    }

    fn sts(&self, role: &Role) -> Result<String, Fault> {
        self.provider.endpoints.sts_of(role).map_err(|e| refused(e.to_string()))
    }
}

fn needs_tls(source: &Source) -> bool {
    match source {
        Source::Role { .. } | Source::Oidc { .. } => true,
        Source::Uri(uri) => uri.scheme_str() == Some("https"),
        _ => false,
    }
}

async fn send(pool: &Pool, request: Request<Bytes>, limit: Duration) -> Result<Response<Bytes>, Fault> {
    let host = request.uri().host().unwrap_or_default().to_owned();
    match tokio::time::timeout(limit, pool.send(request.map(full))).await {
        Ok(answered) => answered,
        Err(_) => Err(Fault::new(FaultKind::Transport, format!("no answer from {host} within {limit:?}"))),
    }
}

/// Runs what waits on a thread that may wait.
async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) if panic.is_panic() => std::panic::resume_unwind(panic.into_panic()),
        Err(_) => Err(Fault::new(FaultKind::Transport, "cancelled")),
    }
}

fn read_token(path: &Path) -> Result<Zeroizing<String>, Fault> {
    let unusable = |why: String| refused(format!("cannot use the token in {}: {why}", path.display()));
    let token = read_text(path, TOKEN_BYTES_MAX).map_err(|e| unusable(e.to_string()))?;
    if token.trim().is_empty() { Err(unusable("the file is empty".into())) } else { Ok(token) }
}

/// Another one each time.
fn nonce() -> String {
    format!("{:032x}", fastrand::u128(..))
}

fn refused(message: String) -> Fault {
    Fault::new(FaultKind::Credentials, message)
}
