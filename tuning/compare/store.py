"""Starts the sink, and asks it what arrived."""

import http.client
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from install import PROGRAMS


@dataclass(frozen=True)
class Stored:
    length: int
    crc64: int | None  # none if the sink does not verify, or the body was framed once more
    sums: str  # the checksums that came with the last part
    cipher: str  # the cipher suite of the last part, over TLS


class Sink:
    """The store that every client accepts, on a free port of the loopback; see `rust/src/bin/sink`."""

    def __init__(self, tls: tuple[Path, Path] | None = None, verify: bool = False):
        options = ["--tls-cert", tls[0], "--tls-key", tls[1]] if tls else []
        command = [PROGRAMS / "sink", *options, *(["--verify"] if verify else [])]
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)
        self.endpoint = self.process.stdout.readline().strip()
        assert self.endpoint, "the sink did not say where it listens"

    def object(self, key: str) -> Stored | None:
        """What it has of that name."""
        scheme, host = self.endpoint.split("://")
        # The certificate is the sink's own, and made a moment ago.
        connection = http.client.HTTPConnection(host) if scheme == "http" else http.client.HTTPSConnection(
            host, context=ssl._create_unverified_context())
        connection.request("HEAD", f"/demo/{key}")
        answer = connection.getresponse()
        connection.close()
        if answer.status != 200:
            return None
        crc64 = answer.headers["x-oss-hash-crc64ecma"]
        return Stored(int(answer.headers["Content-Length"]), int(crc64) if crc64 else None,
                      answer.headers["x-sink-sums"] or "", answer.headers["x-sink-cipher"] or "")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
