#!/usr/bin/env python3
"""Measures how exactly `haul serve --shape` keeps its promises: rates, round trips, request limits, the slow tail.

    tuning/shape.py [--seconds 3] [--dir DIRECTORY] [--only TEXT]

Client and server share the machine. Every figure stands beside the one that was promised; all of them are written to
tuning/results/shape.json.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path

from figures import self_signed
from harness import ROOT, Store, build, fail, machine, put, random_file
from plain_client import Connection, in_threads

MB = 1_000_000
MS = 1e-3
PARTS = 8  # of each connection, on average


def main():
    arguments = parse()
    build()
    results = {"machine": machine(), "seconds": arguments.seconds, "rows": []}
    with tempfile.TemporaryDirectory() as scratch:
        certificate = self_signed(Path(scratch))
        for name, measure in sections(arguments, certificate):
            if arguments.only in name:
                for row in measure():
                    show(name, row)
                    results["rows"].append({"section": name, **row})
    if not arguments.only:
        out = ROOT / "tuning" / "results" / "shape.json"
        out.write_text(json.dumps(results, indent=1) + "\n")
        print(f"\nwritten to {out.relative_to(ROOT)}")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3, help="how long each transfer takes, about")
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where the test file is made and kept")
    parser.add_argument("--only", default="", help="sections whose names hold this text; results are then not written")
    return parser.parse_args()


def sections(arguments, certificate):
    yield "rate", lambda: rates(arguments.seconds, certificate)
    yield "round trip", lambda: round_trips(certificate)
    yield "slow start", slow_starts
    yield "requests", request_limits
    yield "slow tail", slow_tail
    yield "traffic limit", traffic_limits
    yield "profile", lambda: profiles(arguments.dir)


def show(section, row):
    off = (row["measured"] / row["promised"] - 1) * 100
    row["off_percent"] = off
    print(f"{section:14} {row['what']:58} {row['promised']:9.2f} {row['measured']:9.2f} {row['unit']:6} {off:+6.1f} %"
          + (f"  server CPU {row['server_cores']:.2f}" if "server_cores" in row else ""), flush=True)


def shaped(spec, store="null", tls=None):
    return Store(store, tls=tls, options=("--no-auth", "--shape", spec))


# Rates

def rates(seconds, certificate):
    for tls in (None, certificate):
        kind = "TLS" if tls else "plain"
        for way, store in (("up", "null"), ("down", "memory")):
            with shaped("connection-rate=40MB/s", store, tls) as store_of_40:
                yield throughput(store_of_40, f"40 MB/s each, {kind}, {way}", way, 1, 40 * MB, None, seconds)
            with shaped("connection-rate=12MB/s,total-rate=2Gbit/s", store, tls) as store_of_12:
                for connections in (1, 4, 16, 64):
                    name = f"12 MB/s each, 2 Gbit/s in total, {kind}, {way}"
                    yield throughput(store_of_12, name, way, connections, 12 * MB, 250 * MB, seconds)
    with shaped("rtt=60ms,connection-rate=12MB/s,total-rate=2Gbit/s") as store:
        for connections in (1, 4, 16, 64):
            name = "the same at 60 ms, plain, up"
            yield throughput(store, name, "up", connections, 12 * MB, 250 * MB, seconds, 60 * MS)
    with shaped("rtt=500us,total-rate=10Gbit/s") as store:
        for connections in (1, 4, 16):
            name = "10 Gbit/s in total at 0.5 ms, plain, up"
            yield throughput(store, name, "up", connections, None, 1250 * MB, seconds, 0.5 * MS)


def throughput(store, name, way, connections, rate, total, seconds, round_trip=0.0):
    """Connections that take part after part, as an upload does; all bytes, through the time that they take together."""
    line = min(limit for limit in (rate and connections * rate, total) if limit)
    part = int(line / connections * seconds / PARTS)
    left = iter(range(connections * PARTS))  # next() is atomic
    opened = [Connection(store) for _ in range(connections)]
    if way == "down":
        expect(opened[0].request("PUT", "/demo/down", part), 200)
    for connection in opened:
        connection.request("HEAD", "/demo/none")  # setting up is not measured here

    def transfer(connection, i):
        for _ in left:
            if way == "up":
                expect(connection.request("PUT", f"/demo/up{i}", part), 200)
            else:
                expect(connection.request("GET", "/demo/down"), 200)

    cpu, begun = store.cpu(), time.monotonic()
    in_threads(transfer, opened)
    took, cpu = time.monotonic() - begun, store.cpu() - cpu
    for connection in opened:
        connection.close()
    everything = connections * PARTS * part
    each = rate and connections * part / (part / rate + round_trip)  # a connection is idle for a round trip a part
    promised = min(limit for limit in (each, total) if limit)
    return {"what": f"{name}, {connections} connection{'s' if connections > 1 else ''}", "unit": "MB/s",
            "connections": connections, "promised": promised / MB,
            "measured": everything / took / MB, "server_cores": cpu / took}


def expect(answer, status):
    if answer[0] != status:
        fail(f"status {answer[0]}, not {status}: {answer[1]}")
    return answer


# Round trips

def round_trips(certificate):
    """What a round trip adds to the times of a store that is not shaped."""
    for tls in (None, certificate):
        kind, flights = ("TLS", 3) if tls else ("plain", 2)
        bare = {}
        for text, round_trip in (("0s", 0), ("500us", 0.5 * MS), ("2ms", 2 * MS), ("60ms", 60 * MS), ("180ms", 180 * MS)):
            runs = int(3 / round_trip / flights) if round_trip else 500
            with shaped(f"rtt={text}", tls=tls) as store:
                kept = Connection(store)
                works = {"a request on a kept connection": (1, lambda: kept.request("HEAD", "/demo/none")),
                         "a connection and its first request": (flights, lambda: first_request(store))}
                for what, (trips, work) in works.items():
                    row = latency(f"{what}, {text}, {kind}", max(5, min(runs, 500)), trips * round_trip, work)
                    if round_trip:
                        yield {**row, "measured": row["measured"] - bare[what], "bare": bare[what]}
                    bare.setdefault(what, row["measured"])


def first_request(store):
    connection = Connection(store)
    connection.request("HEAD", "/demo/none")
    connection.close()


def latency(what, runs, promised, work):
    times = []
    work()  # warms up
    for _ in range(runs):
        begun = time.monotonic()
        work()
        times.append(time.monotonic() - begun)
    return {"what": what, "unit": "ms", "promised": promised / MS, "measured": statistics.median(times) / MS}


# Slow start

def slow_starts():
    """A first body on a new connection, against the sum that RFC 5681 gives."""
    with shaped("rtt=60ms,connection-rate=12MB/s,initial-window=14600") as store:
        for bytes_ in (100_000, 1_000_000, 4_000_000):
            def upload():
                connection = Connection(store)
                connection.request("PUT", "/demo/up", bytes_)
                connection.close()
            promised = 0.060 + first_body_seconds(bytes_ + 100, 0.060, 12e6, 14600)
            yield latency(f"connection and a first body of {bytes_ / MB:g} MB, 60 ms, 12 MB/s", 7, promised, upload)


def first_body_seconds(bytes_, round_trip, rate, window):
    """Rounds of a doubling window until the line is full, then the rate."""
    seconds = 0.0
    while window < rate * round_trip and bytes_ > window:
        bytes_, window, seconds = bytes_ - window, window * 2, seconds + round_trip
    return seconds + bytes_ / rate + round_trip


# Requests

def request_limits(seconds=10):
    for limit in (50, 500):
        with shaped(f"requests-per-second={limit}") as store:
            opened = [Connection(store) for _ in range(8)]
            let_in, end = [0] * len(opened), time.monotonic() + seconds

            def hammer(connection, i):
                while time.monotonic() < end:
                    status, headers, _ = connection.request("GET", "/demo?bucketInfo")
                    let_in[i] += status == 200
                    if status == 503:
                        time.sleep(int(headers["x-oss-qos-delay-time"]) * MS)

            in_threads(hammer, opened)
            yield {"what": f"requests let in, limit {limit}, 8 connections that wait as told", "unit": "1/s",
                   "promised": limit, "measured": sum(let_in) / seconds}
    with shaped("rtt=20ms,requests-in-flight=16,connection-rate=1MB/s") as store:
        opened = [Connection(store) for _ in range(32)]
        let_in = [0] * len(opened)

        def upload(connection, i):
            connection.request("HEAD", "/demo/none")
            barrier.wait()
            let_in[i] = connection.request("PUT", f"/demo/{i}", 1 * MB)[0] == 200

        barrier = threading.Barrier(len(opened))
        in_threads(upload, opened)
        yield {"what": "uploads let in, limit 16 in flight, 32 at once", "unit": "", "promised": 16,
               "measured": sum(let_in)}


# The slow tail

def slow_tail():
    with shaped("rtt=5ms,slow-share=1%,slow-factor=10,seed=1") as store:
        opened = [Connection(store) for _ in range(8)]
        times = [[] for _ in opened]

        def ask(connection, i):
            for _ in range(500):
                begun = time.monotonic()
                connection.request("HEAD", "/demo/none")
                times[i].append(time.monotonic() - begun)

        in_threads(ask, opened)
        everything = sorted(sum(times, []))
        slow = [t for t in everything if t > 25 * MS]
        yield {"what": "share of slow requests, 1 % of 4,000", "unit": "%", "promised": 1,
               "measured": 100 * len(slow) / len(everything)}
        yield {"what": "a slow request, ten times 5 ms", "unit": "ms", "promised": 50,
                "measured": statistics.median(slow) / MS}
        yield {"what": "the others", "unit": "ms", "promised": 5, "measured": statistics.median(everything) / MS}


# x-oss-traffic-limit

def traffic_limits():
    for bits, seconds in ((819_200, 3), (80_000_000, 3), (838_860_800, 2)):
        bytes_ = bits // 8 * seconds
        headers = {"x-oss-traffic-limit": str(bits)}
        with Store("memory", options=("--no-auth",)) as store:
            connection = Connection(store)
            upload = lambda: expect(connection.request("PUT", "/demo/object", bytes_, headers), 200)
            yield latency(f"{bytes_:,} bytes up at {bits:,} bit/s", 3, seconds, upload)
            download = lambda: expect(connection.request("GET", "/demo/object", 0, headers), 200)
            yield latency(f"{bytes_:,} bytes down at {bits:,} bit/s", 3, seconds, download)


# The shipped profiles

def profiles(directory):
    """`haul put` of 256 MiB in parts of 8 MiB, against what the line can carry with so many connections."""
    file = random_file(Path(directory) / "haul-shape-256", 256 << 20)
    for name, each, total in (("same-region", None, 1250), ("same-region-slow-tail", None, 1250),
                              ("cross-region", 12, 250), ("intercontinental", 3, None), ("throttled-tenant", 16, 125)):
        with Store("null", options=("--shape", str(ROOT / "tuning" / "profiles" / f"{name}.toml"))) as store:
            for parallel in (4, 16):
                runs = [put(file, store.endpoint, "--part-size", "8MiB", "--parallel", str(parallel)) for _ in range(3)]
                failed = [run.stderr for run in runs if run.exit != 0]
                if failed:
                    fail(f"{name}, {parallel} in flight: {failed[0]}")
                seconds = statistics.median(run.done["seconds"] for run in runs)
                promised = min(limit for limit in (each and each * parallel, total) if limit)
                yield {"what": f"{name}, haul put, 8 MiB x {parallel}, of what the line carries", "unit": "MB/s",
                       "promised": promised, "measured": file.stat().st_size / seconds / MB}


if __name__ == "__main__":
    main()
