//! Whether what is sent can be read by others on the way.

use std::net::IpAddr;

use http::Uri;

/// What to say of an endpoint that is spoken to without TLS over a network that others use; `None` if there is nothing.
///
/// Loopback, private and link-local addresses, names without a dot, and names that are only known inside a network
/// (`.local`, `.internal`, the `-internal` endpoints of OSS) are taken for a network of one's own.
pub fn warning(endpoint: &str) -> Option<String> {
    let uri: Uri = endpoint.parse().ok()?;
    let host = uri.host()?.trim_matches(['[', ']']).to_ascii_lowercase();
    if uri.scheme_str() != Some("http") || is_own(&host) {
        return None;
    }
    Some(format!("everything sent to {host} can be read and changed on the way: use https:// instead of http://"))
}

fn is_own(host: &str) -> bool {
    match host.parse() {
        Ok(IpAddr::V4(v4)) => v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified(),
        Ok(IpAddr::V6(v6)) => {
            v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_unspecified()
        }
        Err(_) => {
            let name = host.trim_end_matches('.');
            let inside = [".localhost", ".local", ".internal", "-internal.aliyuncs.com"];
            !name.contains('.') || inside.iter().any(|end| name.ends_with(end))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_to_the_world_is_warned_of() {
        for public in
            ["http://oss-cn-hangzhou.aliyuncs.com", "http://8.8.8.8:80", "http://[2001:db8::1]", "http://A.com."]
        {
            assert!(warning(public).is_some(), "{public}");
        }
        for fine in [
            "https://oss-cn-hangzhou.aliyuncs.com",
            "http://oss-cn-hangzhou-internal.aliyuncs.com",
            "http://127.0.0.1:9000",
            "http://[::1]:9000",
            "http://[fd00::1]",
            "http://192.168.1.2",
            "http://localhost:1",
            "http://demo.localhost:1",
            "http://minio:9000",
            "nonsense",
        ] {
            assert_eq!(warning(fine), None, "{fine}");
        }
    }
}
