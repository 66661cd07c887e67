#!/usr/bin/env python3
"""Uploads one big random file in every combination and compares what is stored with it, byte by byte.

    tuning/matrix.py [--gib 2] [--dir DIRECTORY]

Readers x signatures x plain and TLS x part sizes of 256 KiB, 8 MiB and 1 GiB, into `haul serve --store dir:`.
"""

import argparse
import filecmp
import itertools
import tempfile
from pathlib import Path

from figures import self_signed
from harness import GIB, Store, build, fail, put, random_file


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=2)
    parser.add_argument("--dir", default=tempfile.gettempdir())
    arguments = parser.parse_args()
    build()
    size = int(arguments.gib * GIB)
    file = random_file(Path(arguments.dir) / "haul-matrix", size)
    with tempfile.TemporaryDirectory(dir=arguments.dir) as scratch:
        certificate = self_signed(Path(scratch))
        for tls in [False, True]:
            directory = Path(scratch) / ("tls" if tls else "plain")
            with Store(f"dir:{directory}", tls=certificate if tls else None) as store:
                trust = ["--ca-cert", str(certificate[0])] if tls else []
                for reader, signature, part in itertools.product(
                        ["mmap", "uring", "pread"], ["v4", "v1"], ["256KiB", "8MiB", "1GiB"]):
                    options = ["--reader", reader, "--signature", signature, "--part-size", part, *trust]
                    run = put(file, store.endpoint, *options)
                    name = f"{'https' if tls else 'http ':5} {signature} {reader:5} {part:6}"
                    if run.exit != 0:
                        fail(f"{name}: exit {run.exit}: {run.stderr}")
                    if not any(same(path, file, size) for path in directory.rglob("*")):
                        fail(f"{name}: no stored file equals the source")
                    print(f"{name}  ok  {size / run.seconds / 1e9:5.2f} GB/s  "
                          f"{run.done['parts_sent']} parts of {run.done['part_bytes']}", flush=True)


def same(path: Path, file: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size and filecmp.cmp(path, file, shallow=False)


if __name__ == "__main__":
    main()
