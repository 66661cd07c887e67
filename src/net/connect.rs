//! Making a connection: name resolution with all addresses used in turn, TCP options, proxy tunnels, TLS.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::meter::{Carried, Metered};
use super::origin::Origin;
use super::peer;
use super::proxy::{HttpProxy, Proxies};
use super::tls::{self, ClientTls};
use super::watch::Watched;
use crate::model::retry::{Fault, FaultKind};
use crate::model::settings::Proxy;

/// How long resolved addresses are used before the resolver is asked again.
const ADDRESSES_FRESH: Duration = Duration::from_secs(30);
/// How long an address that failed comes last.
const AVOIDED_FOR: Duration = Duration::from_secs(30);
/// Among how many addresses the time for connecting is shared, so that one that is dead does not cost all of it.
const SHARES_MAX: usize = 3;
/// Silence after which a peer is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How much plaintext rustls may take in one go. Its default of 64 KiB costs a write per four records.
pub(crate) const TLS_BUFFER_BYTES: usize = 256 << 10;
/// Longest time in which a server that speaks TLS begins to answer, once it is asked whether it does.
const TLS_ASKED_FOR: Duration = Duration::from_secs(3);
/// What the kernel takes ahead where waiting for the network is to show. 256 KiB cost a tenth of the CPU on loopback.
const UNSENT_BYTES_MAX: u32 = 256 << 10;

/// What hyper reads and writes.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// An open connection.
pub(super) struct Connected {
    pub stream: Box<dyn Stream>,
    /// The other end of the TCP connection: the server, or the proxy.
    pub peer: SocketAddr,
    /// Set when requests go to a plain HTTP proxy: they name the whole URI and carry this authorization, if any.
    pub proxied: Option<Option<HeaderValue>>,
}

/// Makes connections.
pub struct Connector {
    tls: Option<ClientTls>,
    proxies: Proxies,
    timeout: Duration,
    /// Longest time in which a peer may leave bytes unacknowledged.
    user_timeout: Duration,
    resolved: Mutex<HashMap<(String, u16), Resolved>>,
    /// Addresses that failed, and until when they come last.
    avoided: Mutex<HashMap<SocketAddr, Instant>>,
    turn: AtomicUsize,
    /// Most bytes that the kernel takes before they can be sent; `None` leaves it to the kernel.
    unsent_bytes_max: Option<u32>,
}

/// What a name was found to stand for. It is kept when it is old: a name that was there once is not a mistake.
struct Resolved {
    fresh_until: Instant,
    addresses: Arc<[SocketAddr]>,
}

impl Connector {
    /// - `tls`: needed for `https` origins.
    /// - `timeout`: for resolution, TCP, proxy and TLS together.
    /// - `user_timeout`: longest time in which a peer may leave bytes unacknowledged (`TCP_USER_TIMEOUT`).
    pub fn new(tls: Option<ClientTls>, proxy: &Proxy, timeout: Duration, user_timeout: Duration) -> Self {
        Self {
            tls,
            proxies: Proxies::new(proxy),
            timeout,
            user_timeout,
            resolved: Mutex::default(),
            avoided: Mutex::default(),
            turn: AtomicUsize::new(0),
            unsent_bytes_max: None,
        }
    }

    /// Lets the kernel take few bytes ahead, so that waiting for the network shows: as it is, a small part vanishes into
    /// the kernel at once, and the time on the line looks like that of the store. Costs some CPU.
    pub fn watchful(self) -> Self {
        Self { unsent_bytes_max: Some(UNSENT_BYTES_MAX), ..self }
    }

    /// Connects to `origin`, through a proxy where one is due.
    ///
    /// - `carried`: the exchange that the connection carries is told what writing waits for.
    pub(super) async fn connect(&self, origin: &Origin, carried: &Carried) -> Result<Connected, Fault> {
        match tokio::time::timeout(self.timeout, self.connect_unbounded(origin, carried)).await {
            Ok(result) => result,
            Err(_) => Err(transport(format!("no connection to {} within {:?}", origin.authority(), self.timeout))),
        }
    }

    /// Takes the others first for a while, where the name has others.
    pub(super) fn avoid(&self, address: SocketAddr) {
        lock(&self.avoided).insert(address, Instant::now() + AVOIDED_FOR);
    }

    async fn connect_unbounded(&self, origin: &Origin, carried: &Carried) -> Result<Connected, Fault> {
        let metered = |stream| Metered::socket(stream, carried.clone(), origin.https);
        let Some(proxy) = self.proxies.due(origin)? else {
            let (tcp, peer) = self.tcp(&origin.host, origin.port).await?;
            return Ok(Connected { stream: self.secure(origin, metered(tcp), carried).await?, peer, proxied: None });
        };
        let of_the_proxy = |fault: Fault| Fault { message: format!("the proxy: {}", fault.message), ..fault };
        let (tcp, peer) = self.tcp(&proxy.host, proxy.port).await.map_err(of_the_proxy)?;
        if !origin.https {
            let proxied = Some(proxy.authorization.clone());
            return Ok(Connected { stream: Box::new(metered(tcp)), peer, proxied });
        }
        let tunnel = tunnel(metered(tcp), origin, proxy).await?;
        Ok(Connected { stream: self.secure(origin, tunnel, carried).await?, peer, proxied: None })
    }

    /// Whether a server that said nothing to plain HTTP speaks TLS: those that do may hang up without a word.
    pub(super) async fn speaks_tls(&self, origin: &Origin) -> bool {
        let asked = async {
            let hello = tls::client_hello(&origin.host)?;
            let (mut tcp, _) = self.tcp(&origin.host, origin.port).await.ok()?;
            tcp.write_all(&hello).await.ok()?;
            let mut first = [0; 2];
            tcp.read_exact(&mut first).await.ok()?;
            Some(peer::is_tls(&first))
        };
        tokio::time::timeout(TLS_ASKED_FOR, asked).await.ok().flatten().unwrap_or_default()
    }

    /// Opens a TCP connection; each call starts with the next address of the name, and goes on with the others. One that
    /// does not answer gets its share of the time only.
    async fn tcp(&self, host: &str, port: u16) -> Result<(TcpStream, SocketAddr), Fault> {
        let addresses = self.in_turn(&self.addresses(host, port).await?);
        let share = self.timeout / addresses.len().clamp(1, SHARES_MAX) as u32;
        let mut last = None;
        for address in addresses {
            let cause = match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    self.tune(&stream);
                    return Ok((stream, address));
                }
                Ok(Err(cause)) => cause.to_string(),
                Err(_) => format!("no answer within {share:?}"),
            };
            self.avoid(address);
            last = Some(format!("cannot connect to {host} ({address}): {cause}"));
        }
        if let Some(resolved) = lock(&self.resolved).get_mut(&(host.to_owned(), port)) {
            resolved.fresh_until = Instant::now();
        }
        Err(transport(last.unwrap_or_else(|| format!("{host} has no address"))))
    }

    /// The addresses in the order in which to try them: another one first in every call, those that failed last.
    fn in_turn(&self, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut order = addresses.to_vec();
        if !order.is_empty() {
            order.rotate_left(self.turn.fetch_add(1, Ordering::Relaxed) % addresses.len());
        }
        let mut avoided = lock(&self.avoided);
        let now = Instant::now();
        avoided.retain(|_, until| now < *until);
        order.sort_by_key(|address| avoided.contains_key(address));
        order
    }

    async fn addresses(&self, host: &str, port: u16) -> Result<Arc<[SocketAddr]>, Fault> {
        let key = (host.to_owned(), port);
        let known = lock(&self.resolved).get(&key).map(|known| (known.fresh_until, known.addresses.clone()));
        if let Some((_, addresses)) = known.as_ref().filter(|(fresh_until, _)| Instant::now() < *fresh_until) {
            return Ok(addresses.clone());
        }
        let found = tokio::net::lookup_host((host, port)).await;
        let addresses: Arc<[SocketAddr]> = found.map_err(|cause| unresolved(host, &cause, known.is_some()))?.collect();
        let entry = Resolved { fresh_until: Instant::now() + ADDRESSES_FRESH, addresses: addresses.clone() };
        lock(&self.resolved).insert(key, entry);
        Ok(addresses)
    }

    fn tune(&self, stream: &TcpStream) {
        let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
        let socket = socket2::SockRef::from(stream);
        // None is needed for a transfer to work.
        let _ = stream.set_nodelay(true);
        let _ = socket.set_tcp_keepalive(&keepalive);
        let _ = socket.set_tcp_user_timeout(Some(self.user_timeout));
        self.unsent_bytes_max.into_iter().for_each(|bytes| drop(socket.set_tcp_notsent_lowat(bytes)));
    }

    async fn secure(
        &self,
        origin: &Origin,
        stream: impl Stream + 'static,
        carried: &Carried,
    ) -> Result<Box<dyn Stream>, Fault> {
        if !origin.https {
            return Ok(Box::new(stream));
        }
        let refused = |message: String| Fault::new(FaultKind::Refused, message);
        let tls = self.tls.as_ref().ok_or_else(|| refused("this client was made without TLS".into()))?;
        let name = ServerName::try_from(origin.host.clone())
            .map_err(|_| refused(format!("{} cannot be the name of a TLS server", origin.host)))?;
        let connector = TlsConnector::from(tls.config.clone());
        let secured = connector.connect_with(name, stream, |session| session.set_buffer_limit(Some(TLS_BUFFER_BYTES)));
        match secured.await {
            Ok(stream) => Ok(Box::new(Metered::tls(stream, carried.clone()))),
            Err(cause) => Err(tls_fault(origin, &cause, tls.own_authorities)),
        }
    }
}

/// A server that is not trusted will not be trusted in a second either.
fn tls_fault(origin: &Origin, cause: &std::io::Error, own_authorities: bool) -> Fault {
    let inner = cause.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    let message = format!("TLS with {}: {cause}", origin.host);
    match inner.and_then(|error| tls::distrust(error, own_authorities)) {
        Some((kind, why)) => Fault::new(kind, format!("{message}; {why}")),
        None => transport(message),
    }
}

/// What the C library says of a name that nobody has, or that has no address (glibc, then musl). It says otherwise where
/// nobody could be asked; its codes do not reach us.
const UNKNOWN_HOST: [&str; 4] = [
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "Name has no usable address",
];

/// - `was_there`: the name had addresses before, so that it is the resolver that is wrong now.
fn unresolved(host: &str, cause: &std::io::Error, was_there: bool) -> Fault {
    let text = cause.to_string();
    match UNKNOWN_HOST.iter().any(|said| text.contains(said)) && !was_there {
        true => Fault::new(FaultKind::Endpoint, format!("there is no host {host}: {text}")),
        false => transport(format!("cannot resolve {host}: {text}")),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// Asks an HTTP proxy for a tunnel to `origin` (RFC 9110, section 9.3.6).
async fn tunnel(
    stream: Metered<TcpStream>,
    origin: &Origin,
    proxy: &HttpProxy,
) -> Result<TokioIo<hyper::upgrade::Upgraded>, Fault> {
    let (stream, moved) = Watched::new(stream);
    let failed = |cause: hyper::Error| match peer::mistaken(moved.first()) {
        Some(what) => Fault::new(FaultKind::Endpoint, format!("the proxy {}:{} {what}", proxy.host, proxy.port)),
        None => transport(format!("the proxy did not answer: {cause}")),
    };
    let (mut sender, connection) = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(connection.with_upgrades());
    let authority = origin.authority();
    let mut request = Request::builder().method(Method::CONNECT).uri(&authority).header(HOST, &authority);
    if let Some(authorization) = &proxy.authorization {
        request = request.header(PROXY_AUTHORIZATION, authorization);
    }
    let unasked = |cause| Fault::new(FaultKind::Refused, format!("cannot ask the proxy: {cause}"));
    let request = request.body(Empty::new()).map_err(unasked)?;
    let answer = sender.send_request(request).await.map_err(failed)?;
    if !answer.status().is_success() {
        return Err(no_tunnel(answer.status(), &authority));
    }
    let upgraded = hyper::upgrade::on(answer).await.map_err(failed)?;
    Ok(TokioIo::new(upgraded))
}

fn no_tunnel(status: StatusCode, authority: &str) -> Fault {
    let kind = if status.is_server_error() { FaultKind::Transport } else { FaultKind::Refused };
    let advice = match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => "; it wants a user and a password: http://user:password@host:port",
        _ => "",
    };
    Fault::new(kind, format!("the proxy refused a tunnel to {authority}: {status}{advice}"))
}

pub(super) fn transport(message: String) -> Fault {
    Fault::new(FaultKind::Transport, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connector() -> Connector {
        let second = Duration::from_secs(1);
        Connector::new(None, &Proxy::None, second, second)
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 80))
    }

    #[test]
    fn addresses_take_turns_and_those_that_failed_come_last() {
        let connector = connector();
        let all = [1, 2, 3].map(address);
        let first: Vec<_> = (0..3).map(|_| connector.in_turn(&all)[0]).collect();
        assert_eq!(first, all);
        connector.avoid(address(2));
        assert!((0..6).all(|_| connector.in_turn(&all)[2] == address(2)));
        assert_eq!(connector.in_turn(&[address(2)]), [address(2)], "one that has no other is still used");
    }

    #[test]
    fn a_name_that_nobody_has_is_a_mistake_unless_it_was_there_before() {
        let kind = |said: &str, was_there| unresolved("h", &std::io::Error::other(said), was_there).kind;
        let (nobody, later) = ("Name or service not known", "Temporary failure in name resolution");
        assert_eq!(kind(nobody, false), FaultKind::Endpoint);
        assert_eq!(kind(nobody, true), FaultKind::Transport);
        assert_eq!(kind(later, false), FaultKind::Transport);
    }

    #[tokio::test]
    async fn a_name_with_a_dead_address_connects_to_the_other_and_keeps_to_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let alive = listener.local_addr().unwrap();
        // Nothing listens there: the whole of 127.0.0.0/8 is this machine.
        let dead = SocketAddr::from(([127, 0, 0, 9], alive.port()));
        let connector = connector();
        let entry = Resolved { fresh_until: Instant::now() + ADDRESSES_FRESH, addresses: [dead, alive].into() };
        lock(&connector.resolved).insert(("store".into(), alive.port()), entry);
        for _ in 0..4 {
            assert_eq!(connector.tcp("store", alive.port()).await.unwrap().1, alive);
        }
        assert!(lock(&connector.avoided).contains_key(&dead));
    }
}
