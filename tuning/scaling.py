#!/usr/bin/env python3
"""How `haul put` scales with cores: throughput and CPU on 1, 2, 4, ... cores, plain and TLS, for each reader.

    tuning/scaling.py [--gib 8] [--runs 3] [--cores 1,2,4,8,16] [--dir DIRECTORY]

The client is held to its cores by taskset and has a worker thread on each of them, four parts of 8 MiB in flight per core.
The store, the sink of tuning/compare, has the other cores; where the client takes more than half of them, both share all,
which the table marks. The file is in the page cache. Beside haul runs the floor that writes from a mapping and computes
CRC64, one thread a core. Writes tuning/results/scaling.json; `curves.py` draws it.
"""

import argparse
import dataclasses
import json
import os
import random
import statistics
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "compare")]

import harness  # noqa: E402
from clients import Upload, environment, floor, haul  # noqa: E402
from figures import self_signed  # noqa: E402
from install import install  # noqa: E402
from measure import Pinned, measure  # noqa: E402
from store import Sink  # noqa: E402

OUT = HERE / "results" / "scaling.json"
READERS = ["mmap", "pread", "uring"]
PART_BYTES = 8 << 20
PER_CORE = 4  # parts in flight


def main():
    arguments = parse()
    if not arguments.no_install:
        harness.build()
        install()
    file = harness.random_file(Path(arguments.dir) / f"haul-scaling-{arguments.gib}", arguments.gib * harness.GIB)
    results = {"machine": harness.machine(), "gib": arguments.gib, "runs": arguments.runs, "rows": []}
    with tempfile.TemporaryDirectory() as scratch:
        certificate = self_signed(Path(scratch))
        for tls in (None, certificate):
            for cores in arguments.cores:
                with Sink(tls) as sink, Pinned(file):
                    harness.warm(file)
                    results["rows"] += measure_all(file, sink, tls, cores, arguments.runs, Path(scratch))
                OUT.write_text(json.dumps(results, indent=1) + "\n")


def parse():
    available = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=int, default=8, help="length of the file")
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each row")
    parser.add_argument("--cores", type=lambda text: [int(n) for n in text.split(",")],
                        default=[n for n in (1, 2, 4, 8, 16, 32, 64) if n <= available])
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where the test file is made and kept")
    parser.add_argument("--no-install", action="store_true", help="haul and tuning/compare are built")
    return parser.parse_args()


def measure_all(file, sink, tls, cores, runs, scratch) -> list[dict]:
    """All rows of one number of cores, in turn, in another order each round; the first round warms up."""
    mine, others = divide(cores)
    os.sched_setaffinity(sink.process.pid, others)
    done = {name: [] for name in (*READERS, "floor-mmap-crc64")}
    for round_ in range(runs + 1):
        for name in random.Random(round_).sample(list(done), len(done)):
            command, variables = what(name, file, sink, tls, cores, scratch)
            run = measure(["taskset", "--cpu-list", ",".join(map(str, mine)), *command], variables, 300)
            if run.exit != 0:
                harness.fail(f"{name} on {cores} cores: exit {run.exit}: {run.stderr}")
            if round_ > 0:
                done[name].append(run)
    return [row(name, cores, bool(tls), bool(mine & others), file.stat().st_size, finished)
            for name, finished in done.items()]


def divide(cores: int) -> tuple[set[int], set[int]]:
    """The client's cores and the store's."""
    available = sorted(os.sched_getaffinity(0))
    if 2 * cores > len(available):
        return set(available[:cores]), set(available)
    return set(available[:cores]), set(available[cores:])


def what(name, file, sink, tls, cores, scratch):
    parallel = cores if name.startswith("floor") else PER_CORE * cores
    upload = Upload(str(file), sink.endpoint, f"{name}-{cores}", PART_BYTES, parallel, True, str(tls[0]) if tls else None,
                    str(scratch), False)
    if name.startswith("floor"):
        client = floor(name.removeprefix("floor-"), "CRC64")
        return client.command(upload), environment(client, upload, scratch)
    client = haul("haul", harness.HAUL)
    return [*client.command(upload), "--threads", cores, "--reader", name], environment(client, upload, scratch)


def row(name, cores, tls, shared, file_bytes, runs) -> dict:
    seconds = statistics.median(run.seconds for run in runs)
    found = {"name": name, "cores": cores, "tls": tls, "shared_with_store": shared,
             "gb_per_s": file_bytes / seconds / 1e9,
             "cpu_s_per_gib": statistics.median(run.cpu for run in runs) / (file_bytes / harness.GIB),
             "rss_anon_mib": max(run.rss_anon_kib for run in runs) / 1024,
             "runs": [dataclasses.asdict(run) for run in runs]}
    print(f"{'TLS' if tls else 'plain':6} {name:17} {cores:3} cores{' (shared)' if shared else '':9} "
          f"{found['gb_per_s']:6.2f} GB/s  {found['gb_per_s'] / cores:5.2f} per core  {found['cpu_s_per_gib']:6.3f} "
          f"CPU-s/GiB  RssAnon {found['rss_anon_mib']:5.1f} MiB", flush=True)
    return found


if __name__ == "__main__":
    main()
