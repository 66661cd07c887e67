#!/usr/bin/env python3
"""Measures the figures of the README: CPU, throughput, memory, and what the checkpoint costs.

    tuning/figures.py [--gib 4] [--runs 5] [--dir DIRECTORY] [--only TEXT]

Client and `haul serve --store null` share the machine; the file is in the page cache; medians are printed, and every
run is written to tuning/results/figures.json. CPU is that of the client process alone, user and system.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

from harness import GIB, ROOT, Store, build, cold, fail, machine, put, random_file, warm


def main():
    arguments = parse()
    build()
    directory = Path(arguments.dir)
    big = random_file(directory / "haul-figures-big", int(arguments.gib * GIB))
    many = random_file(directory / "haul-figures-10000-parts", 10_000 * 100 * 1024)
    results = {"machine": machine(), "gib": arguments.gib, "rows": []}
    with tempfile.TemporaryDirectory() as scratch:
        certificate = self_signed(Path(scratch))
        with Store("null") as plain, Store("null", tls=certificate) as tls:
            trust = ["--ca-cert", str(certificate[0])]
            for row in rows():
                if arguments.only not in row["name"]:
                    continue
                file = many if row.get("many") else big
                endpoint, extra = (tls.endpoint, trust) if row.get("tls") else (plain.endpoint, [])
                results["rows"].append(measure(row, file, endpoint, extra, arguments.runs))
    if arguments.only:
        return
    out = ROOT / "tuning" / "results" / "figures.json"
    out.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\nwritten to {out.relative_to(ROOT)}")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=4)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where the test files are made and kept")
    parser.add_argument("--only", default="", help="rows whose names hold this text; the results file is then left alone")
    return parser.parse_args()


def rows():
    for reader in ["mmap", "pread", "uring"]:
        yield {"name": f"plain, {reader}, 8 MiB x 4",
               "options": ["--reader", reader, "--part-size", "8MiB", "--parallel", "4"]}
    yield {"name": "plain, auto, 8 MiB x 4", "options": ["--part-size", "8MiB", "--parallel", "4"]}
    yield {"name": "plain, auto, 8 MiB x 4, cold file", "cold": True,
           "options": ["--part-size", "8MiB", "--parallel", "4"]}
    for reader in ["mmap", "pread", "uring"]:
        for part in ["8MiB", "1GiB"]:
            yield {"name": f"plain, {reader}, {part} x 16",
                   "options": ["--reader", reader, "--part-size", part, "--parallel", "16"]}
    yield {"name": "TLS, auto, 8 MiB x 4", "tls": True, "options": ["--part-size", "8MiB", "--parallel", "4"]}
    yield {"name": "TLS, auto, 8 MiB x 16", "tls": True, "options": ["--part-size", "8MiB", "--parallel", "16"]}
    yield {"name": "10,000 parts, no checkpoint", "many": True,
           "options": ["--part-size", "100KiB", "--parallel", "4", "--no-checkpoint"]}
    yield {"name": "10,000 parts, checkpoint", "many": True,
           "options": ["--part-size", "100KiB", "--parallel", "4"]}


def measure(row, file, endpoint, extra, runs):
    done = []
    for i in range(runs + 1):
        (cold if row.get("cold") else warm)(file)
        run = put(file, endpoint, *row["options"], *extra)
        if run.exit != 0:
            fail(f"{row['name']}: exit {run.exit}: {run.stderr}")
        if i > 0:  # the first run warms up
            done.append(run)
    gib = file.stat().st_size / GIB
    median = lambda values: statistics.median(list(values))
    cpu, rate = median(r.cpu / gib for r in done), median(file.stat().st_size / r.done["seconds"] / 1e9 for r in done)
    seconds = median(r.seconds for r in done)
    anon = max(r.rss_anon_kib for r in done) / 1024
    print(f"{row['name']:42} {cpu:6.3f} CPU-s/GiB  {rate:6.2f} GB/s  {seconds:7.3f} s  RssAnon {anon:5.1f} MiB", flush=True)
    return {"name": row["name"], "options": row["options"], "cpu_s_per_gib": cpu, "gb_per_s": rate,
            "seconds": seconds, "rss_anon_mib": anon, "reader": done[0].done["reader"],
            "runs": [{"cpu": r.cpu, "seconds": r.seconds, "rss_anon_kib": r.rss_anon_kib} for r in done]}


def self_signed(directory: Path):
    certificate, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", certificate],
                   check=True, capture_output=True)
    return certificate, key


if __name__ == "__main__":
    main()
