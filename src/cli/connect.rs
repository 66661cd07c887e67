//! From what was typed and the environment to the settings and credentials of a client.

use haul::client::Client;
use haul::error::Error;
use haul::model::settings::{Addressing, ClientSettings, Proxy, Signature};
use haul::store::credentials::Credentials;

use super::args::{self, Connect};

/// A client of the endpoint that was typed or is in the environment; nothing is sent.
///
/// # Errors
/// [`Error::Settings`] when no endpoint or no credentials are to be had.
pub fn client(typed: &Connect, env: impl Fn(&str) -> Option<String>) -> Result<Client, Error> {
    Client::new(settings(typed, &env)?, Some(credentials(&env)?))
}

fn settings(typed: &Connect, env: impl Fn(&str) -> Option<String>) -> Result<ClientSettings, Error> {
    let endpoint = typed.endpoint.clone().or_else(|| env("HAUL_ENDPOINT")).or_else(|| env("OSS_ENDPOINT"));
    let endpoint = endpoint.ok_or_else(|| Error::Settings("no endpoint: use --endpoint or HAUL_ENDPOINT".into()))?;
    if endpoint.starts_with("local:") {
        return Err(Error::Settings("local:DIR is not available in this build".into()));
    }
    let mut settings = ClientSettings::new(endpoint);
    settings.region = typed.region.clone().or_else(|| env("OSS_REGION"));
    settings.signature = match typed.signature {
        args::Signature::V4 => Signature::V4,
        args::Signature::V1 => Signature::V1,
    };
    settings.addressing = typed.addressing.map(|a| match a {
        args::Addressing::Virtual => Addressing::Virtual,
        args::Addressing::Path => Addressing::Path,
        args::Addressing::Cname => Addressing::Cname,
    });
    settings.ca_cert = typed.ca_cert.clone();
    settings.proxy = typed.proxy.clone().map_or(Proxy::Environment, |p| Proxy::Url(p.0));
    settings.connect_timeout = typed.connect_timeout;
    if let Some(threads) = typed.threads {
        settings.threads = threads.into();
    }
    Ok(settings)
}

fn credentials(env: impl Fn(&str) -> Option<String>) -> Result<Credentials, Error> {
    const NAMES: [[&str; 3]; 2] = [
        ["OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"],
        ["ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN"],
    ];
    NAMES
        .iter()
        .find_map(|[id, secret, token]| {
            Some(Credentials {
                access_key_id: env(id)?,
                access_key_secret: env(secret)?.into(),
                session_token: env(token).map(Into::into),
            })
        })
        .ok_or_else(|| Error::Settings("no credentials: set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET".into()))
}
