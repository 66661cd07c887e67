//! Sources of credentials as data: what is to be asked, and of whom. Asking is left to the engine.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use super::{Credentials, CredentialsError};

/// How long an application's own process may take (specification, section 7.6).
pub const PROCESS_LIMIT: Duration = Duration::from_secs(15);
/// How long the process of a CLI profile of the mode `External` may take (specification, section 7.6).
pub const EXTERNAL_LIMIT: Duration = Duration::from_secs(60);
/// Lifetime of what STS is asked for unless a source says otherwise, in seconds.
pub const ROLE_SECONDS: u64 = 3600;
/// Name of the session unless a source says otherwise.
const SESSION_NAME: &str = "haul";
/// Address of the metadata server of an ECS instance.
pub const METADATA: &str = "http://100.100.100.200";

/// A source of credentials, its name, and whom it asks.
#[derive(Debug, Clone)]
pub struct Provider {
    /// For a person; holds no secret.
    pub name: String,
    pub source: Source,
    pub endpoints: Endpoints,
    /// The file that holds a secret, if one does.
    pub secret_file: Option<PathBuf>,
    /// Nothing was configured, this is a guess: its silence means that there are no credentials.
    pub is_guess: bool,
}

impl Provider {
    /// A provider of your own, with the endpoints of the service.
    pub fn new(name: impl Into<String>, source: Source) -> Self {
        Self { name: name.into(), source, endpoints: Endpoints::default(), secret_file: None, is_guess: false }
    }
}

/// Where credentials come from.
#[derive(Clone)]
#[non_exhaustive]
pub enum Source {
    /// A key that is known and cannot be renewed.
    Key(Credentials),
    /// STS lends a role to `asker` (specification, section 7.5).
    Role { role: Role, asker: Box<Source> },
    /// STS lends a role to whoever holds the token in a file (section 7.4). The file is read again at each renewal.
    Oidc { role: Role, provider_arn: String, token_file: PathBuf },
    /// The role of the ECS instance this runs on (section 7.3).
    InstanceRole {
        /// `None`: the one that the metadata server names.
        name: Option<String>,
        /// `scheme://host[:port]`; `None`: that of [`Endpoints::metadata`].
        at: Option<String>,
    },
    /// What `sh -c COMMAND` writes to its standard output; its standard error is that of this process.
    Process { command: String, limit: Duration },
    /// What a URL answers.
    Uri(Uri),
    /// What an application's function gives. It is called on a thread that may wait.
    Function(Function),
}

/// Gives credentials, or says why not, without a secret.
pub type Function = Arc<dyn Fn() -> Result<Credentials, String> + Send + Sync>;

impl Source {
    /// Whether asking again may give other credentials.
    pub fn can_renew(&self) -> bool {
        !matches!(self, Self::Key(_))
    }

    /// Whether the secret itself was configured.
    pub(super) fn holds_secret(&self) -> bool {
        match self {
            Self::Key(_) => true,
            Self::Role { asker, .. } => asker.holds_secret(),
            _ => false,
        }
    }

    /// Whether the metadata server is asked.
    pub(super) fn asks_metadata(&self) -> bool {
        match self {
            Self::InstanceRole { .. } => true,
            Self::Role { asker, .. } => asker.asks_metadata(),
            _ => false,
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key(_) => "Key(..)",
            Self::Role { .. } => "Role(..)",
            Self::Oidc { .. } => "Oidc(..)",
            Self::InstanceRole { .. } => "InstanceRole(..)",
            Self::Process { .. } => "Process(..)",
            Self::Uri(_) => "Uri(..)",
            Self::Function(_) => "Function(..)",
        })
    }
}

/// A role that STS lends, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    pub arn: String,
    /// Default `haul`.
    pub session_name: String,
    /// 900 s up to what the role allows. Default 3,600 s.
    pub seconds: u64,
    /// Rights that remain, as JSON. Default: all of the role.
    pub policy: Option<String>,
    pub external_id: Option<String>,
    /// Region of the STS that is asked. Default: [`Endpoints::sts_region`].
    pub region: Option<String>,
    /// Ask through the VPC.
    pub vpc: bool,
}

impl Role {
    /// Defaults for `arn`.
    pub fn new(arn: impl Into<String>) -> Self {
        Self {
            arn: arn.into(),
            session_name: SESSION_NAME.into(),
            seconds: ROLE_SECONDS,
            policy: None,
            external_id: None,
            region: None,
            vpc: false,
        }
    }
}

/// Whom sources ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// `scheme://host[:port]` instead of the STS of a region. Default: none.
    pub sts: Option<String>,
    /// Region of STS for roles that name none. Default: none, which is the global `sts.aliyuncs.com`.
    pub sts_region: Option<String>,
    /// Ask STS through the VPC for all roles. Default: no.
    pub sts_vpc: bool,
    /// `scheme://host[:port]`. Default [`METADATA`].
    pub metadata: String,
    /// Whether a metadata server that refuses version 2 may be asked by version 1. Default: yes.
    pub metadata_v1: bool,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self { sts: None, sts_region: None, sts_vpc: false, metadata: METADATA.into(), metadata_v1: true }
    }
}

impl Endpoints {
    /// The address of the STS that lends `role`.
    ///
    /// # Errors
    /// [`CredentialsError::Address`] if the region cannot be part of a host name.
    pub fn sts_of(&self, role: &Role) -> Result<String, CredentialsError> {
        if let Some(address) = &self.sts {
            return Ok(address.clone());
        }
        let Some(region) = role.region.as_ref().or(self.sts_region.as_ref()) else {
            return Ok("https://sts.aliyuncs.com".into());
        };
        let named = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if region.is_empty() || region.len() > 64 || !region.bytes().all(named) {
            return Err(CredentialsError::Address("the region of STS"));
        }
        let prefix = if role.vpc || self.sts_vpc { "sts-vpc" } else { "sts" };
        Ok(format!("https://{prefix}.{region}.aliyuncs.com"))
    }
}

/// `scheme://host[:port]` of a URL without user name. Over plain HTTP only where `plain` allows it or the host is this
/// machine: what is asked for is a secret.
///
/// # Errors
/// [`CredentialsError::Address`] with `name`, the URL is not shown.
pub(super) fn origin(url: &str, name: &'static str, plain: bool) -> Result<String, CredentialsError> {
    let refused = CredentialsError::Address(name);
    let parts = url.parse::<Uri>().map_err(|_| refused.clone())?.into_parts();
    let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else { return Err(refused) };
    let host = authority.host().trim_matches(['[', ']']);
    let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let here = matches!(host, "localhost" | "::1") || (numeric && host.starts_with("127."));
    match scheme.as_str() {
        "https" => {}
        "http" if plain || here => {}
        _ => return Err(refused),
    }
    if host.is_empty() || authority.as_str().contains('@') {
        return Err(refused);
    }
    Ok(format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sts_is_that_of_the_role_then_of_the_environment_then_the_global_one() {
        let mut endpoints = Endpoints::default();
        let mut role = Role::new("a");
        let asked = |e: &Endpoints, r: &Role| e.sts_of(r).unwrap();
        assert_eq!(asked(&endpoints, &role), "https://sts.aliyuncs.com");
        endpoints.sts_region = Some("cn-beijing".into());
        assert_eq!(asked(&endpoints, &role), "https://sts.cn-beijing.aliyuncs.com");
        (role.region, role.vpc) = (Some("cn-hangzhou".into()), true);
        assert_eq!(asked(&endpoints, &role), "https://sts-vpc.cn-hangzhou.aliyuncs.com");
        endpoints.sts = Some("http://127.0.0.1:1".into());
        assert_eq!(asked(&endpoints, &role), "http://127.0.0.1:1");
    }

    #[test]
    fn a_region_that_would_lead_to_another_host_is_refused() {
        for region in ["evil.example/", "a.b", "a@b", "CN", ""] {
            let role = Role { region: Some(region.into()), ..Role::new("a") };
            assert!(Endpoints::default().sts_of(&role).is_err(), "{region}");
        }
    }

    #[test]
    fn a_secret_is_asked_for_in_the_clear_only_on_this_machine_or_where_that_is_the_protocol() {
        let origin = |url, plain| origin(url, "x", plain);
        for url in ["http://127.0.0.1:80/p", "http://[::1]:1", "http://localhost:1/", "https://sts.example.com/x"] {
            assert!(origin(url, false).is_ok(), "{url}");
        }
        assert_eq!(origin("http://100.100.100.200/a/b", true).unwrap(), METADATA);
        for url in [
            "http://sts.example.com",
            "sts.example.com",
            "ftp://127.0.0.1",
            "http://127.0.0.1.example.com",
            "https://u:p@host/",
            "",
            "/path",
        ] {
            assert!(origin(url, false).is_err(), "{url}");
        }
    }
}
