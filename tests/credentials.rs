//! Where keys come from: small stand-ins of the metadata server, of STS and of credential URLs, on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use crate::common::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use haul::blocking;
use haul::client::Keyring;
use haul::model::object::{Bucket, Key};
use haul::model::settings::{ClientSettings, UploadRequest};
use haul::store::credentials::Credentials;
use haul::store::credentials::source::{Provider, Source};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};

const CANARY: &str = "canary-secret-0123456789";
const TOKEN: &str = "canary-token-0123456789";
const KIB: usize = 1 << 10;

/// A request, as a stand-in sees it.
#[derive(Debug, Clone)]
struct Asked {
    /// Method and path.
    what: String,
    query: String,
    /// Lines, names in lower case.
    headers: Vec<String>,
    body: String,
}

impl Asked {
    /// The pairs of query and form, decoded.
    fn parameters(&self) -> Vec<(String, String)> {
        let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
        let pairs = [&self.query, &self.body].into_iter().flat_map(|text| text.split('&')).filter(|p| !p.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap()).map(|(n, v)| (decode(n), decode(v))).collect()
    }

    fn parameter(&self, name: &str) -> String {
        self.parameters().into_iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name} in {self:?}")).1
    }
}

/// A server of a few lines: every connection is one request.
struct StandIn {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl StandIn {
    /// `answer` gets the request and how many came before.
    fn start(answer: impl Fn(&Asked, usize) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let Some(request) = read(BufReader::new(stream.try_clone().unwrap())) else { continue };
                let before = log.lock().unwrap().len();
                log.lock().unwrap().push(request.clone());
                let (status, body) = answer(&request, before);
                let length = body.len();
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.what).collect()
    }
}

fn read(mut stream: impl BufRead) -> Option<Asked> {
    let mut first = String::new();
    stream.read_line(&mut first).ok()?;
    let headers: Vec<_> = stream.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let headers: Vec<_> = headers.iter().filter_map(|line| line.split_once(':')).collect();
    let headers: Vec<_> = headers.iter().map(|(n, v)| format!("{}:{}", n.to_lowercase(), v.trim())).collect();
    let length = headers.iter().find_map(|line| line.strip_prefix("content-length:")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let (method, target) = first.split_once(' ')?;
    let target = target.split(' ').next()?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Some(Asked { what: format!("{method} {path}"), query: query.into(), headers, body: text(&body) })
}

/// What the metadata server and credential URLs answer.
fn key(id: &str, secret: &str) -> Value {
    json!({ "Code": "Success", "AccessKeyId": id, "AccessKeySecret": secret, "SecurityToken": TOKEN,
            "Expiration": "2099-01-01T06:00:00Z" })
}

fn lent(id: &str) -> String {
    json!({ "Credentials": key(id, CANARY), "RequestId": "R" }).to_string()
}

/// The binary with no source of credentials but those that a test gives it.
fn bare(home: &Path) -> Command {
    let mut command = haul();
    for name in ["OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"] {
        command.env_remove(name);
    }
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ALIBABA_CLOUD_")) {
        command.env_remove(name);
    }
    command.env("HOME", home).env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true");
    command
}

/// `haul credentials --json` with these variables.
fn who(home: &Path, variables: &[(&str, &str)]) -> Output {
    let output = bare(home).args(["credentials", "--json"]).envs(variables.iter().copied()).output().unwrap();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(!said.contains("canary"), "{said}");
    output
}

fn identity(output: &Output) -> Value {
    assert_eq!(exit_code(output), 0, "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

const ROLES: &str = "/latest/meta-data/ram/security-credentials/";

/// A metadata server with the role `web`. Version 1 is refused unless `v1`, version 2 unless `v2`.
fn metadata(v1: bool, v2: bool) -> StandIn {
    StandIn::start(move |asked, _| {
        let has_token = asked.headers.iter().any(|line| line == "x-aliyun-ecs-metadata-token:tok");
        let wants_ttl = asked.headers.iter().any(|line| line == "x-aliyun-ecs-metadata-token-ttl-seconds:21600");
        match asked.what.strip_prefix("GET ").and_then(|path| path.strip_prefix(ROLES)) {
            None if v2 && wants_ttl && asked.what == "PUT /latest/api/token" => (200, "tok".into()),
            Some("") if v1 || has_token => (200, "web".into()),
            Some("web") if v1 || has_token => (200, key("instance", CANARY).to_string()),
            _ => (403, String::new()),
        }
    })
}

#[test]
fn the_instance_role_is_asked_by_version_2_and_by_version_1_only_where_that_is_allowed() {
    let home = tempfile::tempdir().unwrap();
    let enabled = ("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "");
    let ask = |server: &StandIn, more: &[(&str, &str)]| {
        who(home.path(), &[&[enabled, ("HAUL_METADATA_ENDPOINT", &server.url)], more].concat())
    };
    let second = metadata(false, true);
    let found = identity(&ask(&second, &[]));
    assert_eq!((&found["access_key_id"], &found["temporary"]), (&json!("instance"), &json!(true)));
    assert_eq!((&found["source"], &found["expires"]), (&json!("instance role"), &json!("2099-01-01T06:00:00Z")));
    let (role, web) = (format!("GET {ROLES}"), format!("GET {ROLES}web"));
    assert_eq!(second.paths(), ["PUT /latest/api/token", &role, &web]);

    let first = metadata(true, false);
    let named = ("ALIBABA_CLOUD_ECS_METADATA", "web");
    assert_eq!(identity(&ask(&first, &[named]))["access_key_id"], "instance");
    assert_eq!(first.paths(), ["PUT /latest/api/token", &web], "the name is not asked for where it is known");

    let forbidden = metadata(true, false);
    let output = ask(&forbidden, &[named, ("ALIBABA_CLOUD_IMDSV1_DISABLED", "true")]);
    assert_eq!(exit_code(&output), 4, "{}", text(&output.stderr));
    assert_eq!(forbidden.paths(), ["PUT /latest/api/token"]);

    let disabled = metadata(true, true);
    let output = ask(&disabled, &[named, ("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")]);
    assert!(exit_code(&output) == 4 && disabled.paths().is_empty());
    assert!(text(&output.stderr).contains("no credentials"), "{}", text(&output.stderr));
}

#[test]
fn silence_of_a_metadata_server_that_nobody_named_means_that_there_are_no_credentials() {
    let home = tempfile::tempdir().unwrap();
    // A port that was just given back has nobody listening.
    let free = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let variables = [("ALIBABA_CLOUD_ECS_METADATA_DISABLED", ""), ("HAUL_METADATA_ENDPOINT", &free)];
    let guessed = who(home.path(), &variables);
    assert_eq!(exit_code(&guessed), 4);
    assert!(text(&guessed.stderr).contains("no credentials: set OSS_ACCESS_KEY_ID"), "{}", text(&guessed.stderr));
    let named = who(home.path(), &[&variables[..], &[("ALIBABA_CLOUD_ECS_METADATA", "web")]].concat());
    assert_eq!(exit_code(&named), 7, "one that was named may come back");
    assert!(text(&named.stderr).contains("instance role: cannot connect"), "{}", text(&named.stderr));
}

/// `enc` of section 7.5, written for this test.
fn enc(text: &str) -> String {
    let byte = |b: u8| match b {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => (b as char).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn signature_of(asked: &Asked, secret: &str) -> String {
    let mut pairs: Vec<_> = asked.parameters().into_iter().filter(|(name, _)| name != "Signature").collect();
    pairs.sort();
    let query = pairs.iter().map(|(n, v)| format!("{}={}", enc(n), enc(v))).collect::<Vec<_>>().join("&");
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(format!("{secret}&").as_bytes()).unwrap();
    mac.update(format!("POST&%2F&{}", enc(&query)).as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

#[test]
fn sts_lends_roles_one_after_the_other_to_signed_requests() {
    let home = tempfile::tempdir().unwrap();
    let sts = StandIn::start(|asked, _| {
        let (secret, lends) = match asked.parameter("AccessKeyId").as_str() {
            "base" => ("canary-base", "first"),
            _ => (CANARY, "second"),
        };
        match asked.parameter("Signature") == signature_of(asked, secret) {
            true => (200, lent(lends)),
            false => (403, json!({ "Code": "SignatureDoesNotMatch", "Message": "canary" }).to_string()),
        }
    });
    std::fs::create_dir(home.path().join(".aliyun")).unwrap();
    let profiles = json!({ "current": "far", "profiles": [
        { "name": "near", "mode": "RamRoleArn", "access_key_id": "base", "access_key_secret": "canary-base",
          "ram_role_arn": "acs:ram::1:role/near", "ram_session_name": "me", "expired_seconds": 900, "policy": "{\"V\": \"*\"}" },
        { "name": "far", "mode": "ChainableRamRoleArn", "source_profile": "near",
          "ram_role_arn": "acs:ram::1:role/far", "external_id": "x/1" } ] });
    let path = home.path().join(".aliyun/config.json");
    std::fs::write(&path, profiles.to_string()).unwrap();
    let found = identity(&who(home.path(), &[("HAUL_STS_ENDPOINT", &sts.url)]));
    assert_eq!(found["access_key_id"], "second");
    assert_eq!(found["source"], format!("{}, profile far", path.display()));
    let [near, far] = sts.asked().try_into().unwrap();
    for (name, value) in [
        ("Action", "AssumeRole"),
        ("Version", "2015-04-01"),
        ("Format", "JSON"),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureVersion", "1.0"),
        ("RoleArn", "acs:ram::1:role/near"),
        ("RoleSessionName", "me"),
        ("DurationSeconds", "900"),
        ("Policy", "{\"V\": \"*\"}"),
    ] {
        assert_eq!(near.parameter(name), value);
    }
    assert_eq!((far.parameter("SecurityToken").as_str(), far.parameter("ExternalId").as_str()), (TOKEN, "x/1"));
    assert_ne!(near.parameter("SignatureNonce"), far.parameter("SignatureNonce"));

    std::fs::write(&path, profiles.to_string().replace("canary-base", "canary-wrong")).unwrap();
    let output = who(home.path(), &[("HAUL_STS_ENDPOINT", &sts.url)]);
    assert_eq!(exit_code(&output), 4);
    let said = text(&output.stderr);
    assert!(said.contains("profile far") && said.contains("SignatureDoesNotMatch"), "{said}");
}

#[test]
fn oidc_sends_the_token_of_the_file_unsigned() {
    let home = tempfile::tempdir().unwrap();
    let sts = StandIn::start(|_, _| (200, lent("pod")));
    let token = home.path().join("token");
    std::fs::write(&token, "canary.oidc.token\n").unwrap();
    let found = identity(&who(
        home.path(),
        &[
            ("HAUL_STS_ENDPOINT", &sts.url),
            ("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/r"),
            ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/p"),
            ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", token.to_str().unwrap()),
        ],
    ));
    assert_eq!((&found["access_key_id"], &found["source"]), (&json!("pod"), &json!("environment (OIDC)")));
    let asked = &sts.asked()[0];
    for (name, value) in [
        ("Action", "AssumeRoleWithOIDC"),
        ("RoleArn", "acs:ram::1:role/r"),
        ("OIDCProviderArn", "acs:ram::1:oidc-provider/p"),
        ("OIDCToken", "canary.oidc.token"),
        ("RoleSessionName", "haul"),
        ("DurationSeconds", "3600"),
    ] {
        assert_eq!(asked.parameter(name), value);
    }
    assert!(!asked.query.contains("Signature=") && !asked.query.contains("canary"), "the token is in the body alone");
}

#[test]
fn a_process_and_a_url_give_keys_and_their_failures_are_named_without_what_they_said() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".aliyun")).unwrap();
    let external = |command: &str| {
        let profile = json!({ "name": "p", "mode": "External", "process_command": command });
        let file = json!({ "current": "p", "profiles": [profile] }).to_string();
        std::fs::write(home.path().join(".aliyun/config.json"), file).unwrap();
        who(home.path(), &[])
    };
    let output =
        json!({ "mode": "StsToken", "access_key_id": "helped", "access_key_secret": CANARY, "sts_token": TOKEN });
    assert_eq!(identity(&external(&format!("echo '{output}'")))["access_key_id"], "helped");
    let failed = external("echo canary; exit 7");
    assert!(exit_code(&failed) == 4 && text(&failed.stderr).contains("exit status: 7"), "{}", text(&failed.stderr));

    let uri = StandIn::start(|_, before| match before {
        0 => (200, key("by-url", CANARY).to_string()),
        1 => (500, "canary".into()),
        _ => (200, "{\"AccessKeyId\":\"canary\"".into()),
    });
    std::fs::remove_file(home.path().join(".aliyun/config.json")).unwrap();
    let ask = || who(home.path(), &[("ALIBABA_CLOUD_CREDENTIALS_URI", &format!("{}/k?t=canary", uri.url))]);
    assert_eq!(identity(&ask())["access_key_id"], "by-url");
    assert_eq!([exit_code(&ask()), exit_code(&ask())], [7, 4]);
    assert_eq!(uri.asked()[0].query, "t=canary");
}

#[test]
fn a_file_with_a_secret_that_others_can_read_is_warned_of_and_an_open_one_without_is_not() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(".ossutilconfig");
    std::fs::write(&path, format!("[Credentials]\naccessKeyID=filed\naccessKeySecret={CANARY}\n")).unwrap();
    for (mode, warned) in [(0o600, false), (0o644, true), (0o640, true)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let output = who(home.path(), &[]);
        assert_eq!(identity(&output)["access_key_id"], "filed");
        assert_eq!(text(&output.stderr).matches("holds a secret").count(), usize::from(warned), "{mode:o}");
    }
    let text_form = bare(home.path()).arg("credentials").output().unwrap();
    let said = text(&text_form.stdout);
    assert!(said.contains("filed") && said.contains("does not expire"), "{said}");
    std::fs::write(&path, format!("[Credentials]\naccessKeySecret={CANARY}\n")).unwrap();
    let half = who(home.path(), &[]);
    assert!(exit_code(&half) == 4 && text(&half.stderr).contains(".ossutilconfig"), "{}", text(&half.stderr));
}

/// A put with the key of `uri` only, everything said, and no secret in it.
fn put_by_url(home: &Path, file: &Path, store: &Served, uri: &StandIn) -> (i32, Vec<Value>, String) {
    let mut command = bare(home);
    command.arg("put").arg(file).args(["oss://demo/object", "--endpoint", &store.endpoint, "--region", "cn-hangzhou"]);
    command.args(["--json", "-vvv", "--part-size", "100KiB", "--parallel", "3"]);
    let output = command.env("ALIBABA_CLOUD_CREDENTIALS_URI", &uri.url).output().unwrap();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(![SECRET, TOKEN].iter().any(|secret| said.contains(secret)), "{said}");
    (exit_code(&output), json_lines(&output.stdout), said)
}

/// A store that asks for the token too.
fn store_with_token(scratch: &Path, rules: &[&str]) -> Served {
    let mut serve = haul();
    serve.env("OSS_SESSION_TOKEN", TOKEN);
    let options: Vec<_> = rules.iter().flat_map(|rule| ["--fault", *rule]).collect();
    Served::start_as(serve, scratch, &options)
}

#[test]
fn a_token_that_expires_during_an_upload_is_renewed_once_and_no_part_is_lost() {
    for code in ["SecurityTokenExpired", "InvalidSecurityToken", "AccessKeyIdAndSecurityTokenNotMatch"] {
        let scratch = tempfile::tempdir().unwrap();
        let store = store_with_token(scratch.path(), &[&format!("UploadPart:#4:error,code={code}")]);
        let uri = StandIn::start(|_, _| (200, key(ID, SECRET).to_string()));
        let (file, content) = random_file(scratch.path(), 1000 * KIB, 1);
        let (exit, events, said) = put_by_url(scratch.path(), &file, &store, &uri);
        assert_eq!(exit, 0, "{said}");
        assert!(store.holds(&content));
        assert_eq!(uri.asked().len(), 2, "asked at first and after the refusal");
        let attempts: Vec<_> = named(&events, "part_done").iter().map(|e| e["attempts"].as_u64().unwrap()).collect();
        assert_eq!((attempts.len(), attempts.iter().sum::<u64>()), (10, 11), "one part was sent twice");
    }
}

#[test]
fn the_store_decides_that_a_token_is_over_and_the_next_one_goes_on() {
    let scratch = tempfile::tempdir().unwrap();
    let store = store_with_token(scratch.path(), &[]);
    // The first key claims to be good for long, but the store does not take it.
    let uri = StandIn::start(|_, before| {
        let mut answer = key(ID, SECRET);
        if before == 0 {
            answer["SecurityToken"] = json!("an-old-token");
        }
        (200, answer.to_string())
    });
    let (file, content) = random_file(scratch.path(), 300 * KIB, 1);
    let (exit, _, said) = put_by_url(scratch.path(), &file, &store, &uri);
    assert!(exit == 0 && store.holds(&content), "{said}");
    assert_eq!(uri.asked().len(), 2);
}

#[test]
fn a_store_that_refuses_every_token_ends_the_upload_with_4_after_one_renewal() {
    let scratch = tempfile::tempdir().unwrap();
    let store = store_with_token(scratch.path(), &["any:always:error,code=SecurityTokenExpired"]);
    let uri = StandIn::start(|_, _| (200, key(ID, SECRET).to_string()));
    let (file, _) = random_file(scratch.path(), 300 * KIB, 1);
    let (exit, _, said) = put_by_url(scratch.path(), &file, &store, &uri);
    assert!(exit == 4 && said.contains("haul credentials"), "{said}");
    assert_eq!(uri.asked().len(), 2);
}

#[test]
fn the_token_of_oidc_is_read_again_at_each_renewal() {
    let scratch = tempfile::tempdir().unwrap();
    let store = store_with_token(scratch.path(), &["UploadPart:#2:error,code=SecurityTokenExpired"]);
    let token = scratch.path().join("token");
    std::fs::write(&token, "first").unwrap();
    let rotated = token.clone();
    let sts = StandIn::start(move |_, _| {
        std::fs::write(&rotated, "second").unwrap();
        (200, json!({ "Credentials": key(ID, SECRET) }).to_string())
    });
    let (file, content) = random_file(scratch.path(), 300 * KIB, 1);
    let mut put = put(&file, &store.endpoint, &["--part-size", "100KiB"]);
    put.env_remove("OSS_ACCESS_KEY_ID").env_remove("OSS_ACCESS_KEY_SECRET").env("HOME", scratch.path());
    put.env("HAUL_STS_ENDPOINT", &sts.url).env("ALIBABA_CLOUD_OIDC_TOKEN_FILE", &token);
    put.env("ALIBABA_CLOUD_ROLE_ARN", "r").env("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "p");
    let output = put.output().unwrap();
    assert!(exit_code(&output) == 0 && store.holds(&content), "{}", text(&output.stderr));
    let tokens: Vec<_> = sts.asked().iter().map(|asked| asked.parameter("OIDCToken")).collect();
    assert_eq!(tokens, ["first", "second"]);
}

#[test]
fn an_application_gives_keys_by_a_function_of_its_own_and_clients_share_them() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let calls = Arc::new(Mutex::new(0));
    let count = calls.clone();
    let vault = Source::Function(Arc::new(move || {
        *count.lock().unwrap() += 1;
        Ok(Credentials::new(ID, SECRET))
    }));
    let settings = ClientSettings { region: Some("cn-hangzhou".into()), ..ClientSettings::new(&store.endpoint) };
    let keyring = Arc::new(Keyring::new(Provider::new("vault", vault), &settings).unwrap());
    for key in ["a", "b"] {
        let client = blocking::Client::with_keyring(settings.clone(), keyring.clone()).unwrap();
        let (file, content) = random_file(scratch.path(), 10 * KIB, 1);
        let request = UploadRequest::new(file, Bucket::new("demo").unwrap(), Key::new(key).unwrap());
        client.upload(request).wait().unwrap();
        assert!(store.holds(&content));
    }
    assert_eq!(*calls.lock().unwrap(), 1);
}

/// `haul stat` by the file that `--config` names: the id that signed what reached `store`, if anything did.
fn signer(
    home: &Path,
    config: &str,
    stdin: Stdio,
    variables: &[(&str, &str)],
    store: &StandIn,
) -> (Output, Vec<String>) {
    let mut command = bare(home);
    command.args(["stat", "oss://demo/k", "--attempts", "1", "--config", config]).stdin(stdin);
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let id = |line: &String| {
        Some(line.split_once("credential=").or(line.split_once("Credential="))?.1.split('/').next()?.to_owned())
    };
    let ids = store.asked().iter().flat_map(|asked| asked.headers.iter().filter_map(id).collect::<Vec<_>>()).collect();
    (output, ids)
}

const OTHER: [(&str, &str); 2] = [("OSS_ACCESS_KEY_ID", "of-somebody-else"), ("OSS_ACCESS_KEY_SECRET", "x")];

#[test]
fn a_configuration_that_can_be_read_once_only_gives_key_and_endpoint() {
    let home = tempfile::tempdir().unwrap();
    let store = StandIn::start(|_, _| (404, String::new()));
    let config = format!("[Credentials]\nendpoint={}\naccessKeyID=from-config\naccessKeySecret={CANARY}\n", store.url);
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(config.as_bytes()).unwrap();
    drop(writer);
    let away = [
        ("OSS_ENDPOINT", "http://127.0.0.1:1"),
        ("HAUL_ENDPOINT", "http://127.0.0.1:1"),
        ("OSS_REGION", "cn-hangzhou"),
    ];
    let variables = [&OTHER[..], &away].concat();
    let (output, ids) = signer(home.path(), "/dev/stdin", reader.try_clone().unwrap().into(), &variables, &store);
    assert_eq!(ids, ["from-config"], "{}", text(&output.stderr));
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    // The same pipe holds nothing the second time.
    let (output, ids) = signer(home.path(), "/dev/stdin", reader.into(), &variables, &store);
    assert_eq!((exit_code(&output), ids.len()), (4, 1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("/dev/stdin"), "{}", text(&output.stderr));
}

#[test]
fn files_of_other_editors_and_of_ossutil_2_are_read() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("config");
    let old = format!("[Credentials]\naccessKeyID=from-file\naccessKeySecret={CANARY}\n");
    let new = format!("[default]\naccessKeyID = from-file\naccess-key-secret = {CANARY}\nregion = cn-hangzhou\n");
    let wide = |text: &str| [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    for content in [
        format!("\u{feff}{old}").into_bytes(),
        old.replace('\n', "\r\n").into_bytes(),
        wide(&old),
        new.clone().into_bytes(),
        format!("\u{feff}{}", new.replace('\n', "\r\n")).into_bytes(),
    ] {
        std::fs::write(&path, content).unwrap();
        let named =
            bare(home.path()).args(["credentials", "--json", "--config"]).arg(&path).envs(OTHER).output().unwrap();
        assert_eq!(identity(&named)["access_key_id"], "from-file");
        std::fs::copy(&path, home.path().join(".ossutilconfig")).unwrap();
        assert_eq!(identity(&who(home.path(), &[]))["access_key_id"], "from-file");
        std::fs::remove_file(home.path().join(".ossutilconfig")).unwrap();
    }
    let sdk = home.path().join(".alibabacloud/credentials");
    std::fs::create_dir(sdk.parent().unwrap()).unwrap();
    let section = format!("\u{feff}[default]\r\ntype=access_key\r\naccess_key_id=c\r\naccess_key_secret={CANARY}\r\n");
    std::fs::write(&sdk, section).unwrap();
    assert_eq!(identity(&who(home.path(), &[]))["access_key_id"], "c");
    std::fs::remove_file(sdk).unwrap();
    let cli = home.path().join(".aliyun/config.json");
    std::fs::create_dir(cli.parent().unwrap()).unwrap();
    let profile = json!({ "name": "p", "mode": "AK", "access_key_id": "d", "access_key_secret": CANARY });
    std::fs::write(&cli, format!("\u{feff}{}", json!({ "current": "p", "profiles": [profile] }))).unwrap();
    assert_eq!(identity(&who(home.path(), &[]))["access_key_id"], "d");
}

#[test]
fn a_file_in_which_nothing_is_understood_is_named_and_lets_nobody_else_sign() {
    let home = tempfile::tempdir().unwrap();
    let store = StandIn::start(|_, _| (404, String::new()));
    let path = home.path().join("config");
    let said = |output: Output| {
        assert_eq!(exit_code(&output), 4, "{}", text(&output.stderr));
        text(&output.stderr)
    };
    for content in ["", "# a comment\n", "[Credentails]\naccessKeyID=i\naccessKeySecret=canary\n", "accessKeyID=i\n"] {
        std::fs::write(&path, content).unwrap();
        let variables = [&OTHER[..], &[("OSS_ENDPOINT", &*store.url), ("OSS_REGION", "cn-hangzhou")]].concat();
        let (output, ids) = signer(home.path(), path.to_str().unwrap(), Stdio::null(), &variables, &store);
        assert!(said(output).contains(path.to_str().unwrap()) && ids.is_empty(), "{content}");
    }
    let uri = [("ALIBABA_CLOUD_CREDENTIALS_URI", &*store.url)];
    for (name, content) in [
        (".ossutilconfig", "[Credentials]\nendpoint=e\naccesKeyID=i\naccesKeySecret=canary\n"),
        (".aliyun/config.json", "{\"current\":\"gone\",\"profiles\":[{\"name\":\"p\"}]}"),
        (".alibabacloud/credentials", "[default]\naccess_key=i\nsecret=canary\n"),
    ] {
        let path = home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        let said = said(who(home.path(), &uri));
        assert!(said.contains(path.to_str().unwrap()), "{said}");
        std::fs::remove_file(path).unwrap();
    }
    assert!(store.asked().is_empty());
}

#[test]
fn a_token_file_with_a_byte_order_mark_is_read_and_an_empty_one_refused() {
    let home = tempfile::tempdir().unwrap();
    let sts = StandIn::start(|_, _| (200, lent("pod")));
    let token = home.path().join("token");
    let ask = |content: &[u8]| {
        std::fs::write(&token, content).unwrap();
        let variables = [
            ("HAUL_STS_ENDPOINT", sts.url.as_str()),
            ("ALIBABA_CLOUD_ROLE_ARN", "r"),
            ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "p"),
            ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", token.to_str().unwrap()),
        ];
        who(home.path(), &variables)
    };
    identity(&ask("\u{feff}canary.oidc.token\r\n".as_bytes()));
    assert_eq!(sts.asked()[0].parameter("OIDCToken"), "canary.oidc.token");
    for content in [vec![], b" \r\n".to_vec(), vec![b'x'; (64 << 10) + 1]] {
        let output = ask(&content);
        assert_eq!(exit_code(&output), 4);
        assert!(text(&output.stderr).contains(token.to_str().unwrap()), "{}", text(&output.stderr));
    }
    assert_eq!(sts.asked().len(), 1, "half a token is not sent");
}

#[test]
fn a_region_in_a_file_names_the_endpoint_and_is_signed_for() {
    let home = tempfile::tempdir().unwrap();
    let proxy = StandIn::start(|_, _| (502, String::new()));
    let key = format!("accessKeyID=i\naccessKeySecret={CANARY}\n");
    std::fs::write(home.path().join(".ossutilconfig"), format!("[default]\nregion=cn-beijing\n{key}")).unwrap();
    let named = home.path().join("named");
    std::fs::write(&named, format!("[default]\nregion=cn-shanghai\n{key}")).unwrap();
    let authority = home.path().join("authority.pem");
    std::fs::write(&authority, rcgen::generate_simple_self_signed(vec!["x".into()]).unwrap().cert.pem()).unwrap();
    for options in [&[][..], &["--config", named.to_str().unwrap()]] {
        let mut command = bare(home.path());
        command.args(["stat", "oss://demo/k", "--attempts", "1", "--ca-cert"]).arg(&authority).args(options);
        command.env("HTTPS_PROXY", &proxy.url);
        command.env_remove("OSS_ENDPOINT").env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    }
    let [of_home, of_named] = proxy.paths().try_into().unwrap();
    assert_eq!(of_home, "CONNECT demo.oss-cn-beijing.aliyuncs.com:443");
    assert_eq!(of_named, "CONNECT demo.oss-cn-shanghai.aliyuncs.com:443");

    let store = StandIn::start(|_, _| (404, String::new()));
    let regions = [("OSS_ENDPOINT", &*store.url), ("OSS_REGION", "cn-elsewhere")];
    signer(home.path(), named.to_str().unwrap(), Stdio::null(), &regions, &store);
    let signed = |asked: &Asked| asked.headers.iter().any(|line| line.contains("/cn-shanghai/oss/"));
    assert!(signed(&store.asked()[0]), "{:?}", store.asked());
}
