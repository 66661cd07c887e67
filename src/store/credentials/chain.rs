//! Which source is the one: the first that is configured, in this order.
//!
//! 1. the ossutil configuration file that was named, if it says anything of credentials; what it says and is not understood
//!    is an error
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
//! `ALIBABA_CLOUD_PROFILE` names, else the current one and `default`; in an ossutil file the profile is that of `OSS_PROFILE`,
//! else `default`. A source that is configured but broken, and a file that is there but not understood, end the search with
//! an error: another key would be a surprise. So does a file that a variable names, if it names no source.

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
    /// Text of a file. Each is asked for once.
    pub read: &'a dyn Fn(&Path) -> io::Result<Zeroizing<String>>,
    /// The ossutil configuration file, if there is one: see [`Ossutil::find`].
    pub ossutil: Option<&'a Ossutil>,
}

/// An ossutil configuration file, which says more than who asks and is therefore read before.
pub struct Ossutil {
    pub path: PathBuf,
    /// It was named, else it is the one below `HOME`.
    pub is_named: bool,
    /// What it says, or why it cannot be used.
    pub config: Result<OssutilConfig, CredentialsError>,
}

impl Ossutil {
    /// Reads the file that was named, which must be there, or `~/.ossutilconfig`, which need not.
    ///
    /// # Errors
    /// What `read` says of the one that was named.
    pub fn find(
        named: Option<&Path>,
        variable: Lookup<'_>,
        read: &dyn Fn(&Path) -> io::Result<Zeroizing<String>>,
    ) -> io::Result<Option<Self>> {
        let below_home = || set(variable, "HOME").map(|home| Path::new(&home).join(".ossutilconfig"));
        let Some(path) = named.map(Path::to_owned).or_else(below_home) else { return Ok(None) };
        let is_named = named.is_some();
        let config = match read(&path) {
            Ok(text) => OssutilConfig::parse(&text, set(variable, "OSS_PROFILE").as_deref()),
            Err(e) if is_named => return Err(e),
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) => Err(CredentialsError::Malformed(e.to_string())),
        };
        let silent = || Err(CredentialsError::NotUnderstood("it names no key, no endpoint and no region"));
        let config = config.and_then(|config| if is_named && config.says_nothing() { silent() } else { Ok(config) });
        Ok(Some(Self { path, is_named, config }))
    }

    fn source(&self) -> Step {
        let name = self.path.display().to_string();
        let source = self.config.as_ref().map_err(Clone::clone).and_then(OssutilConfig::source);
        let source = source.map_err(|e| e.of(&*name))?;
        Ok(source.map(|source| Found { name, source, file: Some(self.path.clone()) }))
    }
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
        self.ossutil.filter(|file| file.is_named).map_or(Ok(None), Ossutil::source)
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
        self.ossutil.filter(|file| !file.is_named).map_or(Ok(None), Ossutil::source)
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

    /// A file that was named for its source, and has none.
    fn silent(&self, variable: &str, wanted: Option<&str>, name: &str) -> Step {
        match set(self.variable, variable).filter(|_| wanted.is_none()) {
            Some(_) => Err(CredentialsError::NotUnderstood("it names no source of credentials").of(name)),
            None => Ok(None),
        }
    }

    fn cli_profile(&self, wanted: Option<&str>) -> Step {
        if is_true(self.variable, "ALIBABA_CLOUD_CLI_PROFILE_DISABLED") {
            return Ok(None);
        }
        const VARIABLE: &str = "ALIBABA_CLOUD_CONFIG_FILE";
        let Some((path, text)) = self.file(VARIABLE, ".aliyun/config.json")? else { return Ok(None) };
        let of_file = |e: CredentialsError| e.of(path.display().to_string());
        let profiles = Profiles::parse(&text).map_err(of_file)?;
        let profile = wanted.map_or_else(|| profiles.current(), Ok).map_err(of_file)?;
        let name = format!("{}, profile {profile}", path.display());
        match profiles.source(profile).map_err(|e| e.of(&*name))? {
            Some(source) => Ok(Some(Found { name, source, file: Some(path) })),
            None => self.silent(VARIABLE, wanted, &name),
        }
    }

    fn section(&self, wanted: Option<&str>) -> Step {
        const VARIABLE: &str = "ALIBABA_CLOUD_CREDENTIALS_FILE";
        let Some((path, text)) = self.file(VARIABLE, ".alibabacloud/credentials")? else { return Ok(None) };
        let section = wanted.unwrap_or("default");
        let name = format!("{}, section {section}", path.display());
        match alibabacloud::source(&text, section).map_err(|e| e.of(&*name))? {
            Some(source) => Ok(Some(Found { name, source, file: Some(path) })),
            None => self.silent(VARIABLE, wanted, &name),
        }
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
        match (self.read)(path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if !is_named && is_absent(&e) => Ok(None),
            Err(e) => Err(CredentialsError::Malformed(e.to_string()).of(path.display().to_string())),
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
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
        let ossutil = Ossutil::find(named.then_some(Path::new("/named")), &variable, &read);
        let ossutil = ossutil.map_err(|e| CredentialsError::Malformed(e.to_string()).of("/named"))?;
        choose(&Surroundings { variable: &variable, read: &read, ossutil: ossutil.as_ref() })
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
    fn a_file_that_says_what_is_not_understood_lets_nobody_else_sign() {
        let key = [("OSS_ACCESS_KEY_ID", "i"), ("OSS_ACCESS_KEY_SECRET", "s")];
        let uri = [("ALIBABA_CLOUD_CREDENTIALS_URI", "http://127.0.0.1:1/x")];
        for text in ["", "\n", "# nothing", "[Credentails]\naccessKeyID=i\naccessKeySecret=s\n", "[x]\ny=z\n"] {
            let named = choose_with(&key, &[("/named", text)], true);
            assert!(named.is_err(), "{text}: an empty file is what a pipe gives that was read before");
            let of_home = choose_with(&uri, &[("/h/.ossutilconfig", text)], false);
            assert_eq!(of_home.is_err(), text.contains('='), "{text}: what says nothing is no mistake");
            assert!(choose_with(&key, &[("/h/.ossutilconfig", text)], false).is_ok(), "{text}: it is not asked");
        }
        let files = [
            ("/h/.aliyun/config.json", r#"{"current":"gone","profiles":[{"name":"p"}]}"#),
            ("/h/.aliyun/config.json", "{}"),
            ("/h/.alibabacloud/credentials", "[default]\nkey=i\n"),
            ("/h/.alibabacloud/credentials", "access_key_id=i\n"),
        ];
        for (path, text) in files {
            let error = choose_with(&uri, &[(path, text)], false).unwrap_err().to_string();
            assert!(error.starts_with(path), "{error}");
        }
        for (variable, text) in [
            ("ALIBABA_CLOUD_CONFIG_FILE", r#"{"current":"p","profiles":[{"name":"p"}]}"#),
            ("ALIBABA_CLOUD_CREDENTIALS_FILE", "[other]\naccess_key_id=i\n"),
        ] {
            let error = choose_with(&[uri[0], (variable, "/f")], &[("/f", text)], false).unwrap_err().to_string();
            assert!(error.starts_with("/f"), "{error}");
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
