"""The least that can talk to the store: one connection, one request at a time, nothing signed (`haul serve --no-auth`)."""

import socket
import ssl
import threading

from harness import fail

ZEROS = memoryview(bytes(1 << 20))
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE


class Connection:
    """One connection; its requests carry zeros, and what it receives is counted and thrown away."""

    def __init__(self, store, buffer: int = 1 << 20):
        self.socket = socket.create_connection(store.address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if store.endpoint.startswith("https"):
            self.socket = TLS.wrap_socket(self.socket)
        self.buffer = bytearray(buffer)

    def request(self, method: str, target: str, body: int = 0, headers: dict | None = None):
        """Sends a request with `body` zeros; answers with status, headers, and the number of bytes that came."""
        lines = [f"{method} {target} HTTP/1.1", "host: localhost"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if method in ("PUT", "POST"):
            lines.append(f"content-length: {body}")
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        while body > 0:
            body -= self.socket.send(ZEROS[: min(body, len(ZEROS))])
        return self.answer(method)

    def answer(self, method: str):
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.socket.recv(65536)
            if not piece:
                raise ConnectionError("the server closed the connection")
            head += piece
        head, rest = head.split(b"\r\n\r\n", 1)
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        wanted = 0 if method == "HEAD" else int(headers.get("content-length", 0))
        got = len(rest)
        while got < wanted:
            piece = self.socket.recv_into(self.buffer)
            if piece == 0:
                raise ConnectionError("the answer is short")
            got += piece
        return int(status.split()[1]), headers, got

    def close(self):
        self.socket.close()


def in_threads(work, connections):
    """`work(connection, i)` for all of them at once, until the last is done."""
    failures = []

    def run(connection, i):
        try:
            work(connection, i)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(c, i)) for i, c in enumerate(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        fail(f"a transfer failed: {failures[0]!r}")
