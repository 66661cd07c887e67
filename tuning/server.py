#!/usr/bin/env python3
"""Measures the strength of `haul serve` itself: throughput, CPU, memory, and many connections.

    tuning/server.py [--gib 2] [--runs 5] [--dir DIRECTORY] [--only TEXT]

Client and server share the machine. The senders are `haul put` of a file in the page cache, and the least that can send:
connections that send zeros. CPU is that of the server process, user and system; medians. Every row is written to
tuning/results/server.json.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path

from figures import self_signed
from harness import GIB, ROOT, Store, build, fail, machine, put, random_file, sample_rss_anon, warm
from plain_client import Connection, in_threads

MIB = 1 << 20


def main():
    arguments = parse()
    build()
    results = {"machine": machine(), "gib": arguments.gib, "rows": []}
    with tempfile.TemporaryDirectory(dir=arguments.dir) as scratch:
        certificate = self_signed(Path(scratch))
        for name, measure in sections(arguments, certificate, Path(scratch)):
            if arguments.only in name:
                for row in measure():
                    print(f"{name:12} " + "  ".join(show(key, value) for key, value in row.items()), flush=True)
                    results["rows"].append({"section": name, **row})
    if not arguments.only:
        out = ROOT / "tuning" / "results" / "server.json"
        out.write_text(json.dumps(results, indent=1) + "\n")
        print(f"\nwritten to {out.relative_to(ROOT)}")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where the test file and the stores are made")
    parser.add_argument("--only", default="", help="sections whose names hold this text; results are then not written")
    return parser.parse_args()


def sections(arguments, certificate, scratch):
    yield "haul put", lambda: uploads(arguments, certificate)
    yield "zeros", lambda: zeros(arguments, certificate)
    yield "memory", lambda: memory(certificate, scratch)
    yield "connections", connections
    yield "small objects", lambda: small_objects(arguments, scratch)


def show(key, value):
    return f"{value:44}" if key == "what" else f"{key} {value:.3g}"


def uploads(arguments, certificate):
    """`haul put` into the null store."""
    file = random_file(Path(arguments.dir) / "haul-figures-big", int(arguments.gib * GIB))
    for tls in (None, certificate):
        with Store("null", tls=tls) as store:
            trust = ["--ca-cert", str(certificate[0])] if tls else []
            for parallel in ("2", "4", "16"):
                def run():
                    warm(file)
                    done = put(file, store.endpoint, "--part-size", "8MiB", "--parallel", parallel, *trust)
                    if done.exit != 0:
                        fail(done.stderr)
                    return done.done["seconds"], done.cpu
                name = f"{'TLS' if tls else 'plain'}, 8 MiB x {parallel}"
                yield medians(name, store, arguments.gib, arguments.runs, run)


def zeros(arguments, certificate):
    """Connections that send zeros in bodies of 64 MiB: what the server can take when the client costs nothing."""
    for tls in (None, certificate):
        with Store("null", tls=tls, options=("--no-auth",)) as store:
            for number in (1, 2, 4, 16):
                opened = [Connection(store) for _ in range(number)]
                bodies = max(1, int(arguments.gib * GIB / number) // (64 * MIB))

                def send(connection, i):
                    for _ in range(bodies):
                        connection.request("PUT", f"/demo/{i}", 64 * MIB)

                def run():
                    cpu, begun = time.process_time(), time.monotonic()
                    in_threads(send, opened)
                    return time.monotonic() - begun, time.process_time() - cpu

                name = f"{'TLS' if tls else 'plain'}, {number} connection{'s' if number > 1 else ''}"
                yield medians(name, store, bodies * number * 64 * MIB / GIB, arguments.runs, run)


def medians(what, store, gib, runs, run):
    rows = []
    for i in range(runs + 1):
        cpu = store.cpu()
        seconds, client = run()
        if i > 0:  # the first run warms up
            rows.append((gib / seconds, (store.cpu() - cpu) / gib, client / gib))
    rate, server, client = (statistics.median(column) for column in zip(*rows))
    return {"what": what, "GiB/s": rate, "server CPU-s/GiB": server, "client CPU-s/GiB": client}


def memory(certificate, scratch, uploads_at_once=200):
    """Uploads of 4 MiB at a time, three on each connection; the most RssAnon that was seen, sampled every 5 ms."""
    for store_name in ("null", "dir"):
        for tls in (None, certificate):
            kind = "TLS" if tls else "plain"
            where = store_name if store_name == "null" else f"dir:{scratch}/{kind}"
            with Store(where, tls=tls, options=("--no-auth",)) as store:
                peak = [0]
                threading.Thread(target=sample_rss_anon, args=(store.process.pid, peak), daemon=True).start()
                opened = [Connection(store) for _ in range(uploads_at_once)]

                def send(connection, i):
                    for _ in range(3):
                        connection.request("PUT", f"/demo/{i}", 4 * MIB)

                in_threads(send, opened)
                yield {"what": f"{uploads_at_once} uploads at a time, {store_name}, {kind}", "MiB": peak[0] / 1024}


def connections(number=2000):
    """A request beside connections that stall in the middle of a head."""
    with Store("null", options=("--no-auth",)) as store:
        one = Connection(store)
        times = []
        for stalled in (0, number):
            waiting = [Connection(store, buffer=1) for _ in range(stalled)]
            for connection in waiting:
                connection.socket.sendall(b"PUT /demo/key HTTP/1.1\r\nhost: h")
            peak = [0]
            threading.Thread(target=sample_rss_anon, args=(store.process.pid, peak), daemon=True).start()
            times = [timed(lambda: one.request("HEAD", "/demo/none")) for _ in range(1000)]
            yield {"what": f"a request beside {stalled} stalled connections", "ms": statistics.median(times) * 1000,
                   "ms at most": max(times) * 1000, "MiB": peak[0] / 1024}
            for connection in waiting:
                connection.close()


def small_objects(arguments, scratch, puts=10_000):
    """PUTs of 16 KiB, no key twice: durable before they are answered, and in memory for comparison."""
    for store_name in ("memory", "dir"):
        for number in (1, 16, 64):
            rows = []
            for i in range(arguments.runs):
                where = store_name if store_name == "memory" else f"dir:{scratch}/small-{number}-{i}"
                with Store(where, options=("--no-auth",)) as store:
                    opened = [Connection(store) for _ in range(number)]

                    def send(connection, n):
                        for key in range(n, puts, number):
                            connection.request("PUT", f"/demo/{key}", 16 << 10)

                    cpu = store.cpu()
                    seconds = timed(lambda: in_threads(send, opened))
                    rows.append((seconds, (store.cpu() - cpu) * 1000 / puts))
            seconds, server = (statistics.median(column) for column in zip(*rows))
            yield {"what": f"{puts} PUTs of 16 KiB, {store_name}, {number} connections", "s": seconds,
                   "server CPU-ms/PUT": server}


def timed(work):
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


if __name__ == "__main__":
    main()
