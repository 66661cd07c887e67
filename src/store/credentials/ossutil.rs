//! The configuration file of ossutil, `~/.ossutilconfig`, as version 1 has it (`[Credentials]`; specification, section 7.2)
//! and as version 2 has it (`[default]`, `[profile NAME]`). The text is passed in.

use ini::{Ini, Properties};

use super::ini_text::{load, may_mean_a_key, plain, section, value};
use super::source::{Role, Source, origin};
use super::{CredentialsError, assemble};

const MODES: &str = "AK, StsToken, RamRoleArn, EcsRamRole";
/// Most profiles that a profile takes its values from, one after the other.
const PROFILES_MAX: usize = 8;
/// Names that are understood, or known to say nothing of who asks and where.
const KNOWN: [&str; 27] = [
    "accessKeyID",
    "accessKeySecret",
    "stsToken",
    "mode",
    "ramRoleArn",
    "roleArn",
    "roleSessionName",
    "tokenTimeout",
    "stsRegion",
    "ecsRoleName",
    "ramRoleName",
    "endpoint",
    "region",
    "sourceProfile",
    "buckets",
    "addressingStyle",
    "language",
    "outputDir",
    "outputFormat",
    "userAgent",
    "logLevel",
    "proxyHost",
    "proxyUser",
    "proxyPwd",
    "readTimeout",
    "connectTimeout",
    "retryTimes",
];

/// What such a file says.
#[derive(Debug, Default)]
pub struct OssutilConfig {
    source: Option<Result<Source, CredentialsError>>,
    endpoint: Option<String>,
    region: Option<String>,
    bucket_endpoints: Vec<(String, String)>,
    bucket_cnames: Vec<(String, String)>,
}

impl OssutilConfig {
    /// Reads the text of the file. Section and key names are not case-sensitive.
    ///
    /// - `profile`: the profile of version 2 to use; `None` is `default`, which need not be there.
    ///
    /// # Errors
    /// [`CredentialsError::Malformed`] if it is no INI file, [`CredentialsError::NotUnderstood`] if it says something and
    /// nothing of it is known, [`CredentialsError::NoProfile`]. The message never shows a line of the file.
    pub fn parse(text: &str, profile: Option<&str>) -> Result<Self, CredentialsError> {
        let ini = load(text)?;
        if !ini.iter().all(|(_, properties)| properties.is_empty()) && !ini.iter().any(is_known) {
            return Err(CredentialsError::NotUnderstood("no section and no name in it is one of ossutil's"));
        }
        let profile = Layers::of_profile(&ini, profile)?;
        let old = Layers::from_iter(section(&ini, "Credentials"));
        let url = section(&ini, "AkService").and_then(|properties| value(properties, "ecsAk"));
        let pairs = |name: &str| section(&ini, name).map(pairs).unwrap_or_default();
        Ok(Self {
            bucket_endpoints: pairs("Bucket-Endpoint"),
            bucket_cnames: pairs("Bucket-Cname"),
            endpoint: profile.value("endpoint").or_else(|| old.value("endpoint")),
            region: profile.value("region").or_else(|| old.value("region")),
            source: source_of(&ini, &profile, &old, url).transpose(),
        })
    }

    /// Where the file has credentials come from; `None` if it says nothing of them.
    ///
    /// # Errors
    /// [`CredentialsError`] for half a key, for modes that are not supported or lack something, for two keys, and for a name
    /// that may have been meant for a key.
    pub fn source(&self) -> Result<Option<Source>, CredentialsError> {
        self.source.clone().transpose()
    }

    /// The endpoint to use for `bucket`, and whether it is a domain bound to it.
    pub fn endpoint(&self, bucket: &str) -> Option<(&str, bool)> {
        let of = |pairs: &'_ [(String, String)]| pairs.iter().position(|(name, _)| name == bucket);
        if let Some(i) = of(&self.bucket_cnames) {
            return Some((&self.bucket_cnames[i].1, true));
        }
        if let Some(i) = of(&self.bucket_endpoints) {
            return Some((&self.bucket_endpoints[i].1, false));
        }
        self.endpoint.as_deref().map(|endpoint| (endpoint, false))
    }

    /// Whether it says neither who asks nor where.
    pub fn says_nothing(&self) -> bool {
        let Self { source, endpoint, region, bucket_endpoints, bucket_cnames } = self;
        source.is_none()
            && endpoint.is_none()
            && region.is_none()
            && bucket_endpoints.is_empty()
            && bucket_cnames.is_empty()
    }

    /// The region to sign for, which also names an endpoint: version 2 asks for no other.
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }
}

/// Whether a section, or a name in it, is one that ossutil knows.
fn is_known((name, properties): (Option<&str>, &Properties)) -> bool {
    match name.map(str::to_ascii_lowercase).as_deref() {
        Some("bucket-endpoint" | "bucket-cname" | "akservice") => true,
        Some("credentials" | "default") => {
            properties.iter().any(|(name, _)| KNOWN.iter().any(|known| plain(known) == plain(name)))
        }
        Some(name) => name.starts_with("profile ") || name.starts_with("buckets "),
        None => false,
    }
}

/// Sections of which the first that has a value counts.
struct Layers<'a>(Vec<&'a Properties>);

impl<'a> FromIterator<&'a Properties> for Layers<'a> {
    fn from_iter<I: IntoIterator<Item = &'a Properties>>(layers: I) -> Self {
        Self(layers.into_iter().collect())
    }
}

impl<'a> Layers<'a> {
    /// The profile and those that it takes values from.
    fn of_profile(ini: &'a Ini, wanted: Option<&str>) -> Result<Self, CredentialsError> {
        let mut layers = Self(Vec::new());
        let mut name = wanted.unwrap_or("default").to_owned();
        for _ in 0..PROFILES_MAX {
            let short = section(ini, &name).filter(|_| name.eq_ignore_ascii_case("default"));
            let found: Vec<_> = section(ini, &format!("profile {name}")).into_iter().chain(short).collect();
            if found.is_empty() && (wanted.is_some() || !layers.0.is_empty()) {
                return Err(CredentialsError::NoProfile(name));
            }
            let before = found.iter().find_map(|properties| value(properties, "sourceProfile"));
            layers.0.extend(found);
            match before {
                Some(before) => name = before,
                None => return Ok(layers),
            }
        }
        Err(CredentialsError::Endless(name, PROFILES_MAX))
    }

    fn value(&self, name: &str) -> Option<String> {
        self.0.iter().find_map(|properties| value(properties, name))
    }

    fn value_of(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.value(name))
    }
}

/// Two keys in one file, or a name that may have been meant for one, are no reason to choose for the user.
fn source_of(
    ini: &Ini,
    profile: &Layers<'_>,
    old: &Layers<'_>,
    url: Option<String>,
) -> Result<Option<Source>, CredentialsError> {
    match (source(profile, None)?, source(old, url)?) {
        (Some(_), Some(_)) => {
            Err(CredentialsError::NotUnderstood("it has a key in [Credentials] and one in a profile"))
        }
        (None, None) if ini.iter().any(is_like_a_key) => Err(CredentialsError::NotUnderstood(
            "it has no key, but a name that is like accessKeyID or accessKeySecret, or one of these in another section",
        )),
        (one, other) => Ok(one.or(other)),
    }
}

/// Whether a section says something that may have been meant for a key. Other profiles may hold whatever they like.
fn is_like_a_key((name, properties): (Option<&str>, &Properties)) -> bool {
    match name.unwrap_or_default().to_ascii_lowercase().as_str() {
        "credentials" | "default" | "profile default" => may_mean_a_key(properties, &KNOWN),
        other if ["bucket", "akservice", "profile "].iter().any(|known| other.starts_with(known)) => false,
        _ => may_mean_a_key(properties, &[]),
    }
}

/// - `url`: where ossutil is to get the credentials of an instance role, whose name is the last part of it.
fn source(properties: &Layers<'_>, url: Option<String>) -> Result<Option<Source>, CredentialsError> {
    let names = ["accessKeyID", "accessKeySecret"].map(|name| (name, properties.value(name)));
    let key = || Ok(assemble(names, properties.value("stsToken"))?.map(Source::Key));
    let mode = properties.value("mode").unwrap_or_default();
    match plain(&mode).as_str() {
        "" => match (key()?, url) {
            (None, Some(url)) => instance_role(None, Some(url)).map(Some),
            (key, _) => Ok(key),
        },
        "ak" | "ststoken" => key(),
        "ramrolearn" => {
            let lacks = |missing| CredentialsError::Lacks { mode: "RamRoleArn", missing };
            let asker = key()?.ok_or(lacks("accessKeyID and accessKeySecret"))?;
            let mut role = Role::new(properties.value_of(&["ramRoleArn", "roleArn"]).ok_or(lacks("ramRoleArn"))?);
            if let Some(name) = properties.value("roleSessionName") {
                role.session_name = name;
            }
            if let Some(seconds) = properties.value("tokenTimeout") {
                let wrong = |_| CredentialsError::Malformed("tokenTimeout is no number of seconds".into());
                role.seconds = seconds.parse().map_err(wrong)?;
            }
            role.region = properties.value("stsRegion");
            Ok(Some(Source::Role { role, asker: Box::new(asker) }))
        }
        "ecsramrole" => instance_role(properties.value_of(&["ecsRoleName", "ramRoleName"]), url).map(Some),
        _ => Err(CredentialsError::Mode(mode, MODES)),
    }
}

fn instance_role(name: Option<String>, url: Option<String>) -> Result<Source, CredentialsError> {
    let Some(url) = url else { return Ok(Source::InstanceRole { name, at: None }) };
    let at = Some(origin(&url, "ecsAk", true)?);
    let last = url.rsplit('/').next().filter(|last| !last.is_empty()).map(str::to_owned);
    Ok(Source::InstanceRole { name: name.or(last), at })
}

fn pairs(properties: &Properties) -> Vec<(String, String)> {
    properties.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[Credentials]\nlanguage=EN\nENDPOINT=oss-cn-hangzhou.aliyuncs.com\naccesskeyid=id\n\
        accessKeySecret=se\\cret=#x\nstsToken=\n[Bucket-Endpoint]\nfar=oss-us-west-1.aliyuncs.com\n\
        [Bucket-Cname]\nown=static.example.com\n";

    #[test]
    fn keys_are_found_whatever_their_case_and_secrets_are_taken_verbatim() {
        let config = OssutilConfig::parse(FILE, None).unwrap();
        assert_eq!(config.endpoint("any"), Some(("oss-cn-hangzhou.aliyuncs.com", false)));
        assert_eq!(config.endpoint("far"), Some(("oss-us-west-1.aliyuncs.com", false)));
        assert_eq!(config.endpoint("own"), Some(("static.example.com", true)));
        assert!(!format!("{config:?}").contains("cret"));
        let Some(Source::Key(found)) = config.source().unwrap() else { panic!("a key") };
        assert_eq!((found.access_key_id.as_str(), found.access_key_secret.as_str()), ("id", "se\\cret=#x"));
        assert!(found.session_token.is_none());
    }

    fn source_of(text: &str) -> Result<Option<Source>, CredentialsError> {
        OssutilConfig::parse(text, None).unwrap().source()
    }

    #[test]
    fn every_mode_has_its_source() {
        const KEY: &str = "accessKeyID=id\naccessKeySecret=s\nstsToken=t\n";
        let token = source_of(&format!("[Credentials]\nmode=StsToken\n{KEY}"));
        assert!(matches!(token, Ok(Some(Source::Key(key))) if key.session_token.is_some()));
        let role = source_of(&format!(
            "[Credentials]\nmode=ramrolearn\n{KEY}ramRoleArn=r\nroleSessionName=n\ntokenTimeout=900\nstsRegion=cn-x\n"
        ));
        let Ok(Some(Source::Role { role, asker })) = role else { panic!("a role: {role:?}") };
        assert_eq!((role.arn.as_str(), role.session_name.as_str(), role.seconds), ("r", "n", 900));
        assert_eq!((role.region.as_deref(), asker.holds_secret()), (Some("cn-x"), true));
        let instance = source_of("[Credentials]\nmode=EcsRamRole\necsRoleName=web\n");
        assert!(matches!(instance, Ok(Some(Source::InstanceRole { name: Some(name), at: None })) if name == "web"));
        let service =
            source_of("[AkService]\necsAk=http://100.100.100.200/latest/meta-data/Ram/security-credentials/w\n");
        let Ok(Some(Source::InstanceRole { name, at })) = service else { panic!("a role: {service:?}") };
        assert_eq!((name.as_deref(), at.as_deref()), (Some("w"), Some("http://100.100.100.200")));
        assert!(matches!(source_of("[Credentials]\nlanguage=EN\n"), Ok(None)));
    }

    #[test]
    fn what_a_mode_lacks_and_broken_files_are_named_without_their_content() {
        let lacks = source_of("[Credentials]\nmode=RamRoleArn\naccessKeyID=id\naccessKeySecret=canary\n").unwrap_err();
        assert_eq!(lacks.to_string(), "mode RamRoleArn needs ramRoleArn");
        let mode = source_of("[Credentials]\nmode=Magic\n").unwrap_err();
        assert!(mode.to_string().starts_with("mode Magic is not supported"), "{mode}");
        let half = source_of("[Credentials]\naccessKeySecret=canary\n").unwrap_err();
        let broken = OssutilConfig::parse("[Credentials\naccessKeySecret=canary", None).unwrap_err();
        assert!(!format!("{half} {broken}").contains("canary"));
    }

    /// The key id of the file, or why there is none.
    fn key_of(text: &str, profile: Option<&str>) -> Result<Option<String>, CredentialsError> {
        let source = OssutilConfig::parse(text, profile)?.source()?;
        Ok(source.map(|source| if let Source::Key(key) = source { key.access_key_id } else { panic!("{source:?}") }))
    }

    #[test]
    fn profiles_of_version_2_are_read_however_their_names_are_written() {
        const FILE: &str = "[default]\naccess-key-id = one\naccess_key_secret = s\nregion = cn-hangzhou\n\
            [profile two]\naccessKeyId=two\naccesskeysecret=s\nregion=cn-beijing\nendpoint=e\n\
            [Profile three]\nsource-profile = two\nregion = cn-x\n";
        for ending in ["\n", "\r\n", "\r"] {
            let file = FILE.replace('\n', ending);
            assert_eq!(key_of(&file, None).unwrap().as_deref(), Some("one"));
            for (profile, key, region) in
                [("two", "two", "cn-beijing"), ("three", "two", "cn-x"), ("default", "one", "cn-hangzhou")]
            {
                assert_eq!(key_of(&file, Some(profile)).unwrap().as_deref(), Some(key));
                assert_eq!(OssutilConfig::parse(&file, Some(profile)).unwrap().region(), Some(region));
            }
        }
        assert_eq!(OssutilConfig::parse(FILE, Some("three")).unwrap().endpoint("any"), Some(("e", false)));
        assert_eq!(key_of("[profile default]\naccessKeyID=a\naccessKeySecret=s", None).unwrap().as_deref(), Some("a"));
        assert_eq!(key_of(FILE, Some("four")).unwrap_err(), CredentialsError::NoProfile("four".into()));
        let round = "[profile a]\nsource-profile=b\n[profile b]\nsource-profile=a\n";
        assert!(matches!(key_of(round, Some("a")), Err(CredentialsError::Endless(..))));
        let role = OssutilConfig::parse("[default]\nmode=EcsRamRole\necs-role-name=web\n", None).unwrap().source();
        assert!(matches!(role, Ok(Some(Source::InstanceRole { name: Some(name), .. })) if name == "web"));
    }

    #[test]
    fn what_may_have_been_meant_for_a_key_is_never_taken_for_silence() {
        const KEY: &str = "accessKeyID=a\naccessKeySecret=canary\n";
        for file in [
            format!("[Credentails]\n{KEY}"),
            KEY.to_owned(),
            format!("[Bucket-Endpoint]\nb=e\n[Other]\n{KEY}"),
            "[Credentials]\nendpoint=e\naccesKeyID=a\naccesKeySecret=canary\n".to_owned(),
            "[default]\nregion=r\nsecret=canary\n".to_owned(),
            "[default]\nwhatever=canary\n".to_owned(),
            format!("[default]\n{KEY}[Credentials]\n{KEY}"),
        ] {
            let error = key_of(&file, None).unwrap_err();
            assert!(matches!(error, CredentialsError::NotUnderstood(_)), "{file}: {error}");
            assert!(!error.to_string().contains("canary"));
        }
        for file in [
            "",
            "# nothing\n",
            "[Credentials]\n",
            "[Credentials]\nlanguage=EN\nendpoint=e\naccessKeyID=\nstsToken=\n",
            "[Default]\nloglevel=debug\nproxyPwd=p\n",
            "[Bucket-Cname]\nkeys=static.example.com\n",
            "[default]\nregion=r\n[profile other]\ncredential-process=x\n",
        ] {
            assert_eq!(key_of(file, None), Ok(None), "{file}");
        }
    }
}
