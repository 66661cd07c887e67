//! Which source is the one: the first that is configured, in this order.
//!
//! 1. the ossutil configuration file that was named, if it says anything of credentials
//! 2. `OSS_ACCESS_KEY_ID`, `OSS_ACCESS_KEY_SECRET`, `OSS_SESSION_TOKEN`
//! 3. `ALIBABA_CLOUD_ACCESS_KEY_ID`, `ALIBABA_CLOUD_ACCESS_KEY_SECRET`, `ALIBABA_CLOUD_SECURITY_TOKEN`
//! 4. `~/.ossutilconfig`
//! 5. OIDC: `ALIBABA_CLOUD_OIDC_TOKEN_FILE`, `ALIBABA_CLOUD_OIDC_PROVIDER_ARN`, `ALIBABA_CLOUD_ROLE_ARN`
//! 6. a profile of `ALIBABA_CLOUD_CONFIG_FILE` or `~/.aliyun/config.json`, unless `ALIBABA_CLOUD_CLI_PROFILE_DISABLED`
//! 7. a section of `ALIBABA_CLOUD_CREDENTIALS_FILE` or `~/.alibabacloud/credentials`
//! 8. the instance role that `ALIBABA_CLOUD_ECS_METADATA` names
//! 9. `ALIBABA_CLOUD_CREDENTIALS_URI`
//! 10. whatever role the instance has: the metadata server is asked for at most two seconds; its silence means that there are no
//!     credentials
//!
//! 8 and 10 are left out where `ALIBABA_CLOUD_ECS_METADATA_DISABLED` says so. The profile and the section are those that
//! `ALIBABA_CLOUD_PROFILE` names, else the current one and `default`. A source that is configured but broken ends the
//! search with an error: going on with another key would be a surprise.

use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::aliyun::Profiles;
use super::environment::{self, Lookup, is_true, set};
use super::ossutil::OssutilConfig;
use super::source::{Endpoints, Provider, Source, origin};
use super::{CredentialsError, alibabacloud};

/// What is known of this machine.
pub struct Surroundings<'a> {
    /// Values of environment variables. `HOME` is where the files are looked for.
    pub variable: Lookup<'a>,
    /// Text of a file.
    pub read: &'a dyn Fn(&Path) -> io::Result<Zeroizing<String>>,
    /// The ossutil configuration file that was named.
    pub config: Option<&'a Path>,
}

/// Finds the source. Nothing is asked yet.
///
/// # Errors
/// [`CredentialsError::Source`] for a source that is configured but cannot be used, [`CredentialsError::Nowhere`] if none is
/// configured and the metadata server must not be asked.
pub fn choose(from: &Surroundings<'_>) -> Result<Provider, CredentialsError> {
    let endpoints = environment::endpoints(from.variable).map_err(|e| e.of("environment"))?;
    let steps = [
        Surroundings::named_config,
        Surroundings::oss,
        Surroundings::alibaba_cloud,
        Surroundings::home_config,
        Surroundings::oidc,
        Surroundings::files,
        Surroundings::named_role,
        Surroundings::uri,
    ];
    for step in steps {
        if let Some(found) = step(from)? {
            if found.source.asks_metadata() && from.metadata_disabled() {
                return Err(CredentialsError::MetadataDisabled.of(found.name));
            }
            return Ok(found.provider(endpoints));
        }
    }
    if from.metadata_disabled() {
        return Err(CredentialsError::Nowhere);
    }
    let guess = Found::new("instance role", Source::InstanceRole { name: None, at: None });
    Ok(Provider { is_guess: true, ..guess.provider(endpoints) })
}

struct Found {
    name: String,
    source: Source,
    file: Option<PathBuf>,
}

impl Found {
    fn new(name: &str, source: Source) -> Self {
        Self { name: name.into(), source, file: None }
    }

    fn provider(self, endpoints: Endpoints) -> Provider {
        let secret_file = self.file.filter(|_| self.source.holds_secret());
        Provider { endpoints, secret_file, ..Provider::new(self.name, self.source) }
    }
}

type Step = Result<Option<Found>, CredentialsError>;

impl Surroundings<'_> {
    fn named_config(&self) -> Step {
        self.config.map_or(Ok(None), |path| self.ossutil(path.to_owned(), true))
    }

    fn oss(&self) -> Step {
        self.key("environment (OSS_*)", environment::OSS)
    }

    fn alibaba_cloud(&self) -> Step {
        self.key("environment (ALIBABA_CLOUD_*)", environment::ALIBABA_CLOUD)
    }

    fn key(&self, name: &str, variables: [&str; 3]) -> Step {
        let key = environment::key(variables, self.variable).map_err(|e| e.of(name))?;
        Ok(key.map(|key| Found::new(name, Source::Key(key))))
    }

    fn home_config(&self) -> Step {
        match self.home(".ossutilconfig") {
            Some(path) if self.config.is_none() => self.ossutil(path, false),
            _ => Ok(None),
        }
    }

    fn ossutil(&self, path: PathBuf, is_named: bool) -> Step {
        let name = path.display().to_string();
        let Some(text) = self.text(&path, is_named)? else { return Ok(None) };
        let source = OssutilConfig::parse(&text).and_then(OssutilConfig::source).map_err(|e| e.of(&*name))?;
        Ok(source.map(|source| Found { name, source, file: Some(path) }))
    }

    fn oidc(&self) -> Step {
        const NAME: &str = "environment (OIDC)";
        Ok(environment::oidc(self.variable).map_err(|e| e.of(NAME))?.map(|source| Found::new(NAME, source)))
    }

    /// The two files that know profiles. A profile that was named must be in one of them.
    fn files(&self) -> Step {
        const VARIABLE: &str = "ALIBABA_CLOUD_PROFILE";
        let wanted = set(self.variable, VARIABLE);
        if let Some(found) = self.cli_profile(wanted.as_deref())? {
            return Ok(Some(found));
        }
        match (self.section(wanted.as_deref())?, wanted) {
            (None, Some(wanted)) => Err(CredentialsError::NoProfile(wanted).of(VARIABLE)),
            (found, _) => Ok(found),
        }
    }

    fn cli_profile(&self, wanted: Option<&str>) -> Step {
        if is_true(self.variable, "ALIBABA_CLOUD_CLI_PROFILE_DISABLED") {
            return Ok(None);
        }
        let Some((path, text)) = self.file("ALIBABA_CLOUD_CONFIG_FILE", ".aliyun/config.json")? else {
            return Ok(None);
        };
        let profiles = Profiles::parse(&text).map_err(|e| e.of(path.display().to_string()))?;
        let profile = wanted.unwrap_or_else(|| profiles.current());
        let name = format!("{}, profile {profile}", path.display());
        let source = profiles.source(profile).map_err(|e| e.of(&*name))?;
        Ok(source.map(|source| Found { name, source, file: Some(path) }))
    }

    fn section(&self, wanted: Option<&str>) -> Step {
        let found = self.file("ALIBABA_CLOUD_CREDENTIALS_FILE", ".alibabacloud/credentials")?;
        let Some((path, text)) = found else { return Ok(None) };
        let section = wanted.unwrap_or("default");
        let name = format!("{}, section {section}", path.display());
        let source = alibabacloud::source(&text, section).map_err(|e| e.of(&*name))?;
        Ok(source.map(|source| Found { name, source, file: Some(path) }))
    }

    fn named_role(&self) -> Step {
        let role = set(self.variable, "ALIBABA_CLOUD_ECS_METADATA").filter(|_| !self.metadata_disabled());
        let found = |role| Found::new("instance role", Source::InstanceRole { name: Some(role), at: None });
        Ok(role.map(found))
    }

    fn uri(&self) -> Step {
        const NAME: &str = "ALIBABA_CLOUD_CREDENTIALS_URI";
        let Some(uri) = set(self.variable, NAME) else { return Ok(None) };
        origin(&uri, NAME, true)?;
        let uri = uri.parse().map_err(|_| CredentialsError::Address(NAME))?;
        Ok(Some(Found::new(NAME, Source::Uri(uri))))
    }

    fn metadata_disabled(&self) -> bool {
        is_true(self.variable, "ALIBABA_CLOUD_ECS_METADATA_DISABLED")
    }

    fn home(&self, path: &str) -> Option<PathBuf> {
        set(self.variable, "HOME").map(|home| Path::new(&home).join(path))
    }

    /// The file that a variable names, which must be there, or the one below `HOME`, which need not.
    fn file(&self, variable: &str, path: &str) -> Result<Option<(PathBuf, Zeroizing<String>)>, CredentialsError> {
        let named = set(self.variable, variable).map(PathBuf::from);
        let is_named = named.is_some();
        let Some(path) = named.or_else(|| self.home(path)) else { return Ok(None) };
        Ok(self.text(&path, is_named)?.map(|text| (path, text)))
    }

    fn text(&self, path: &Path, is_named: bool) -> Result<Option<Zeroizing<String>>, CredentialsError> {
        let absent = |e: &io::Error| matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        match (self.read)(path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if !is_named && absent(&e) => Ok(None),
            Err(e) => Err(CredentialsError::Malformed(e.to_string()).of(path.display().to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its name, and the variables or the file that configure it.
    type Configured = (&'static str, &'static [(&'static str, &'static str)], Option<(&'static str, &'static str)>);

    /// The sources in their order.
    const SOURCES: [Configured; 9] = [
        ("/named", &[], Some(("/named", "[Credentials]\naccessKeyID=i\naccessKeySecret=s\n"))),
        ("environment (OSS_*)", &[("OSS_ACCESS_KEY_ID", "i"), ("OSS_ACCESS_KEY_SECRET", "s")], None),
        (
            "environment (ALIBABA_CLOUD_*)",
            &[("ALIBABA_CLOUD_ACCESS_KEY_ID", "i"), ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "s")],
            None,
        ),
        ("/h/.ossutilconfig", &[], Some(("/h/.ossutilconfig", "[Credentials]\naccessKeyID=i\naccessKeySecret=s\n"))),
        (
            "environment (OIDC)",
            &[
                ("ALIBABA_CLOUD_ROLE_ARN", "r"),
                ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "p"),
                ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", "/t"),
            ],
            None,
        ),
        (
            "/h/.aliyun/config.json, profile p",
            &[],
            Some((
                "/h/.aliyun/config.json",
                r#"{"current":"p","profiles":[{"name":"p","mode":"EcsRamRole","ram_role_name":"w"}]}"#,
            )),
        ),
        (
            "/h/.alibabacloud/credentials, section default",
            &[],
            Some(("/h/.alibabacloud/credentials", "[default]\naccess_key_id=i\naccess_key_secret=s\n")),
        ),
        ("instance role", &[("ALIBABA_CLOUD_ECS_METADATA", "w")], None),
        ("ALIBABA_CLOUD_CREDENTIALS_URI", &[("ALIBABA_CLOUD_CREDENTIALS_URI", "http://127.0.0.1:1/x")], None),
    ];

    fn choose_with(
        variables: &[(&str, &str)],
        files: &[(&str, &str)],
        named: bool,
    ) -> Result<Provider, CredentialsError> {
        let variable = |name: &str| match name {
            "HOME" => Some("/h".to_owned()),
            _ => variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()),
        };
        let read = |path: &Path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| Zeroizing::new((*text).to_owned())).ok_or(io::ErrorKind::NotFound.into())
        };
        let config = named.then_some(Path::new("/named"));
        choose(&Surroundings { variable: &variable, read: &read, config })
    }

    #[test]
    fn the_first_source_that_is_configured_is_the_one() {
        for first in 0..SOURCES.len() {
            let configured = &SOURCES[first..];
            let variables: Vec<_> = configured.iter().flat_map(|(_, variables, _)| variables.iter().copied()).collect();
            let files: Vec<_> = configured.iter().filter_map(|(_, _, file)| *file).collect();
            let found = choose_with(&variables, &files, first == 0).unwrap();
            assert_eq!((found.name.as_str(), found.is_guess), (SOURCES[first].0, false));
            let holds_secret = matches!(first, 0 | 3 | 6);
            assert_eq!(found.secret_file.is_some(), holds_secret, "{}", found.name);
        }
        assert!(choose_with(&[], &[], false).unwrap().is_guess);
    }

    #[test]
    fn a_broken_source_ends_the_search_and_is_named() {
        let good = [("ALIBABA_CLOUD_ACCESS_KEY_ID", "i"), ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "s")];
        let half = [&good[..], &[("OSS_ACCESS_KEY_SECRET", "canary")]].concat();
        let broken = [("/h/.aliyun/config.json", "{canary")];
        for (error, name) in [
            (choose_with(&half, &[], false), "environment (OSS_*): "),
            (choose_with(&good, &[], true), "/named: "),
            (choose_with(&[], &broken, false), "/h/.aliyun/config.json: "),
            (choose_with(&[("ALIBABA_CLOUD_CONFIG_FILE", "/no")], &[], false), "/no: "),
            (
                choose_with(&[("ALIBABA_CLOUD_PROFILE", "x")], &[SOURCES[5].2.unwrap()], false),
                "ALIBABA_CLOUD_PROFILE: ",
            ),
        ] {
            let error = error.unwrap_err().to_string();
            assert!(error.starts_with(name) && !error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn what_is_disabled_is_not_used() {
        const NO_METADATA: (&str, &str) = ("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true");
        let profile = SOURCES[5].2.unwrap();
        assert_eq!(choose_with(&[NO_METADATA], &[], false).unwrap_err(), CredentialsError::Nowhere);
        let named = [NO_METADATA, ("ALIBABA_CLOUD_ECS_METADATA", "w")];
        assert_eq!(choose_with(&named, &[], false).unwrap_err(), CredentialsError::Nowhere);
        let asked_for = choose_with(&[NO_METADATA], &[profile], false).unwrap_err();
        assert!(asked_for.to_string().contains("ALIBABA_CLOUD_ECS_METADATA_DISABLED"), "{asked_for}");
        let no_profile = [NO_METADATA, ("ALIBABA_CLOUD_CLI_PROFILE_DISABLED", "true")];
        assert_eq!(choose_with(&no_profile, &[profile], false).unwrap_err(), CredentialsError::Nowhere);
    }
}
