//! A server that says one thing, whatever it is asked: what no store should answer, byte for byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Answers the first bytes of every connection, up to the end of a head if it is HTTP, with what `answer` makes of them,
/// and closes. Gives its address and how many connections came. Ends with the test.
pub fn canned(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    written(move |head, stream| drop(stream.write_all(&answer(head))))
}

/// As [`canned`], with answers that are written by `answer`, however long.
pub fn written(answer: impl Fn(&str, &mut TcpStream) + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    std::thread::spawn({
        let count = count.clone();
        move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                let (mut head, mut piece) = (Vec::new(), [0; 4096]);
                while let Ok(read @ 1..) = stream.read(&mut piece) {
                    head.extend_from_slice(&piece[..read]);
                    let is_tls = head[0] == 0x16;
                    if is_tls || head.windows(4).any(|end| end == b"\r\n\r\n") {
                        break;
                    }
                }
                answer(&String::from_utf8_lossy(&head), &mut stream);
                let _ = stream.shutdown(std::net::Shutdown::Write);
                // What was not read would turn the end into a reset, which may overtake the answer.
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            }
        }
    });
    (address, count)
}

/// An HTTP answer that closes the connection.
pub fn http(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}").into_bytes()
}
