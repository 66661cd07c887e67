//! The configuration file of ossutil, `~/.ossutilconfig` (specification, section 7.2). The text is passed in.

use ini::Properties;

use super::ini_text::{load, section, value};
use super::source::{Role, Source, origin};
use super::{CredentialsError, assemble};

const MODES: &str = "AK, StsToken, RamRoleArn, EcsRamRole";

/// What such a file says.
#[derive(Debug, Default)]
pub struct OssutilConfig {
    source: Option<Result<Source, CredentialsError>>,
    endpoint: Option<String>,
    bucket_endpoints: Vec<(String, String)>,
    bucket_cnames: Vec<(String, String)>,
}

impl OssutilConfig {
    /// Reads the text of the file. Section and key names are not case-sensitive.
    ///
    /// # Errors
    /// [`CredentialsError::Malformed`] if it is no INI file. The message never shows a line of the file.
    pub fn parse(text: &str) -> Result<Self, CredentialsError> {
        let ini = load(text)?;
        let pairs = |name: &str| section(&ini, name).map(pairs).unwrap_or_default();
        let credentials = section(&ini, "Credentials");
        let url = section(&ini, "AkService").and_then(|properties| value(properties, "ecsAk"));
        Ok(Self {
            bucket_endpoints: pairs("Bucket-Endpoint"),
            bucket_cnames: pairs("Bucket-Cname"),
            endpoint: credentials.and_then(|properties| value(properties, "endpoint")),
            source: source(credentials.unwrap_or(&Properties::new()), url).transpose(),
        })
    }

    /// Where the file has credentials come from; `None` if it says nothing of them.
    ///
    /// # Errors
    /// [`CredentialsError`] for half a key and for modes that are not supported or lack something.
    pub fn source(self) -> Result<Option<Source>, CredentialsError> {
        self.source.transpose()
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
}

/// - `url`: where ossutil is to get the credentials of an instance role, whose name is the last part of it.
fn source(properties: &Properties, url: Option<String>) -> Result<Option<Source>, CredentialsError> {
    let names = ["accessKeyID", "accessKeySecret"].map(|name| (name, value(properties, name)));
    let key = || Ok(assemble(names, value(properties, "stsToken"))?.map(Source::Key));
    let mode = value(properties, "mode").unwrap_or_default();
    match mode.to_ascii_lowercase().as_str() {
        "" => match (key()?, url) {
            (None, Some(url)) => instance_role(None, Some(url)).map(Some),
            (key, _) => Ok(key),
        },
        "ak" | "ststoken" => key(),
        "ramrolearn" => {
            let lacks = |missing| CredentialsError::Lacks { mode: "RamRoleArn", missing };
            let asker = key()?.ok_or(lacks("accessKeyID and accessKeySecret"))?;
            let mut role = Role::new(value(properties, "ramRoleArn").ok_or(lacks("ramRoleArn"))?);
            if let Some(name) = value(properties, "roleSessionName") {
                role.session_name = name;
            }
            if let Some(seconds) = value(properties, "tokenTimeout") {
                let wrong = |_| CredentialsError::Malformed("tokenTimeout is no number of seconds".into());
                role.seconds = seconds.parse().map_err(wrong)?;
            }
            role.region = value(properties, "stsRegion");
            Ok(Some(Source::Role { role, asker: Box::new(asker) }))
        }
        "ecsramrole" => instance_role(value(properties, "ecsRoleName"), url).map(Some),
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
        let config = OssutilConfig::parse(FILE).unwrap();
        assert_eq!(config.endpoint("any"), Some(("oss-cn-hangzhou.aliyuncs.com", false)));
        assert_eq!(config.endpoint("far"), Some(("oss-us-west-1.aliyuncs.com", false)));
        assert_eq!(config.endpoint("own"), Some(("static.example.com", true)));
        assert!(!format!("{config:?}").contains("cret"));
        let Some(Source::Key(found)) = config.source().unwrap() else { panic!("a key") };
        assert_eq!((found.access_key_id.as_str(), found.access_key_secret.as_str()), ("id", "se\\cret=#x"));
        assert!(found.session_token.is_none());
    }

    fn source_of(text: &str) -> Result<Option<Source>, CredentialsError> {
        OssutilConfig::parse(text).unwrap().source()
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
        let broken = OssutilConfig::parse("[Credentials\naccessKeySecret=canary").unwrap_err();
        assert!(!format!("{half} {broken}").contains("canary"));
    }
}
