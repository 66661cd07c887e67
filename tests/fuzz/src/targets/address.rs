//! Addresses: what is read is written the same, and a request goes to the host that was named.

use haul::model::object::{Bucket, Key, ObjectUrl};
use haul::model::settings::{Addressing, ClientSettings, ObjectOptions, Proxy};
use haul::net::exposure;
use haul::net::origin::Origin;
use haul::net::proxy::Proxies;
use haul::store::Store;
use haul::store::credentials::environment;
use haul::store::operations::initiate::Initiate;
use http::Uri;

use super::is_shown_safely;

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    object_url(text);
    let (endpoint, key) = text.split_once('\n').unwrap_or((text, "key"));
    for addressing in [Addressing::Virtual, Addressing::Path, Addressing::Cname] {
        an_endpoint(endpoint, key, addressing);
    }
    a_proxy(text);
    environments(text);
}

fn object_url(text: &str) {
    let Ok(url) = text.parse::<ObjectUrl>() else { return };
    assert_eq!(url.to_string().parse().as_ref(), Ok(&url));
    assert_eq!(url.to_string().trim_end_matches('/'), text.trim_end_matches('/'));
    if let Ok(key) = url.key_for("file") {
        assert!(key.as_str().starts_with(&url.key));
    }
}

fn an_endpoint(endpoint: &str, key: &str, addressing: Addressing) {
    let named = |endpoint: &str| {
        let region = Some("cn-hangzhou".into());
        Store::new(&ClientSettings { region, addressing: Some(addressing), ..ClientSettings::new(endpoint) })
    };
    let Ok(store) = named(endpoint) else { return };
    let name = store.endpoint();
    assert_eq!(named(name).expect("its own name").endpoint(), name, "one endpoint has one name");
    exposure::warning(name);
    let Ok(key) = Key::new(key) else { return };
    let bucket = Bucket::new("demo").expect("a name");
    let initiate = Initiate { bucket: &bucket, key: &key, options: &ObjectOptions::default() };
    let request = store.request(&initiate, None, std::time::UNIX_EPOCH);
    let authority = request.uri().authority().expect("absolute").as_str();
    let host = authority.strip_prefix("demo.").filter(|_| addressing == Addressing::Virtual).unwrap_or(authority);
    assert_eq!(Some(host), name.split_once("://").map(|(_, host)| host), "the host that was named");
    let origin = Origin::of(request.uri()).expect("an HTTP address");
    assert_eq!(origin.https, name.starts_with("https:"));
    let written = request.uri().to_string();
    assert_eq!(written.parse::<Uri>().map(|uri| uri.to_string()).ok(), Some(written), "a line of a request");
}

fn a_proxy(text: &str) {
    let store = Uri::from_static("http://store.example");
    match Proxies::new(&Proxy::Url(text.into())).address(&store) {
        Ok(address) => assert!(address.is_some_and(|(host, _)| !host.is_empty()), "never around a proxy"),
        Err(fault) => assert!(is_shown_safely(&fault.to_string())),
    }
}

/// Addresses of STS and of the metadata server.
fn environments(text: &str) {
    for variable in [environment::STS_ENDPOINT, environment::METADATA_ENDPOINT] {
        let lookup = |name: &str| (name == variable).then(|| text.to_owned());
        let Ok(endpoints) = environment::endpoints(&lookup) else { continue };
        let address = endpoints.sts.unwrap_or(endpoints.metadata);
        assert!(!address.contains('@') && !address[8..].contains('/'), "scheme and host alone: {address}");
        assert!(address.parse::<Uri>().is_ok_and(|uri| Origin::of(&uri).is_some()), "{address}");
    }
}
