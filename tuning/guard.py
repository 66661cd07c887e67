#!/usr/bin/env python3
"""What an upload costs, counted instead of timed: instructions and system calls per GiB of fixed uploads.

    tuning/guard.py             compares with tuning/results/guard.json; exit 1 if something became dearer
    tuning/guard.py --record    writes what was counted there

Counts of one thread hardly depend on the speed of the machine, so a regression shows on any. Instructions are those of the
process outside of the kernel, by `valgrind --tool=callgrind`, which offers the same instruction set on every machine;
system calls are counted by `strace`. Each count is the least of several runs.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import harness
from figures import self_signed
from harness import GIB, ROOT, Store

RECORDED = ROOT / "tuning" / "results" / "guard.json"
MIB = 1 << 20
FILE_BYTES = 256 * MIB
# What may be added before it counts as a regression, as a share of what is recorded.
TOLERANCE = {"instructions": 0.05, "system_calls": 0.15}
RUNS = {"instructions": 2, "system_calls": 3}
COMMON = ("--threads", "1", "--parallel", "4")
SCENARIOS = {
    "mapped, parts of 8 MiB, plain": ("--reader", "mmap", "--part-size", "8MiB"),
    "pread, parts of 8 MiB, plain": ("--reader", "pread", "--part-size", "8MiB"),
    "mapped, parts of 8 MiB, TLS": ("--reader", "mmap", "--part-size", "8MiB"),
    "mapped, parts of 128 KiB, plain": ("--reader", "mmap", "--part-size", "128KiB"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="take what is counted now as what it may cost")
    arguments = parser.parse_args()
    harness.build()
    counted = count_all()
    print_table(counted)
    if arguments.record:
        RECORDED.write_text(json.dumps({"haul": harness.machine()["haul"], "per_gib": counted}, indent=1) + "\n")
        return
    dearer = compare(json.loads(RECORDED.read_text())["per_gib"], counted)
    print("\n".join(dearer) or "nothing became dearer")
    sys.exit(1 if dearer else 0)


def count_all() -> dict:
    with tempfile.TemporaryDirectory() as scratch:
        file = harness.random_file(Path(scratch) / "file", FILE_BYTES)
        certificate = self_signed(Path(scratch))
        return {name: count(name, options, file, certificate) for name, options in SCENARIOS.items()}


def count(name: str, options: tuple[str, ...], file: Path, certificate) -> dict:
    tls = certificate if name.endswith("TLS") else None
    trust = ("--ca-cert", str(certificate[0])) if tls else ()
    with Store("null", tls) as store:
        command = harness.put_command(file, store.endpoint, *COMMON, *options, *trust)
        return {
            "instructions": per_gib(min(instructions(command) for _ in range(RUNS["instructions"]))),
            "system_calls": least([system_calls(command) for _ in range(RUNS["system_calls"])]),
        }


def instructions(command: list[str]) -> int:
    said = run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command])
    return int(re.search(r"Collected : (\d+)", said)[1])


def system_calls(command: list[str]) -> dict[str, int]:
    """By name, those of all threads."""
    with tempfile.NamedTemporaryFile("r") as log:
        run(["strace", "-f", "-qq", "-c", "-o", log.name, *command])
        rows = [line.split() for line in log.read().splitlines()]
    return {row[-1]: int(row[3]) for row in rows if len(row) >= 5 and row[3].isdigit()}


def run(command: list[str]) -> str:
    done = subprocess.run(command, env=harness.put_environment(), capture_output=True, text=True)
    if done.returncode != 0:
        harness.fail(f"{command[0]} gave {done.returncode}: {done.stderr[-2000:]}")
    return done.stderr


def least(runs: list[dict[str, int]]) -> dict[str, int]:
    """The run with the fewest calls in all, per GiB."""
    calls = min(runs, key=lambda run: run["total"])
    return {name: per_gib(calls[name]) for name in sorted(calls, key=calls.get, reverse=True)}


def per_gib(count: int) -> int:
    return count * GIB // FILE_BYTES


def compare(recorded: dict, counted: dict) -> list[str]:
    """What became dearer, in sentences."""
    said = []
    for name, before in recorded.items():
        now = counted[name]
        for what, was, is_ in (("instructions", before["instructions"], now["instructions"]),
                               ("system_calls", before["system_calls"]["total"], now["system_calls"]["total"])):
            if is_ > was * (1 + TOLERANCE[what]):
                more = growth(before["system_calls"], now["system_calls"]) if what == "system_calls" else ""
                said.append(f"{name}: {what.replace('_', ' ')} per GiB {was:,} -> {is_:,} (x {is_ / was:.2f}){more}; if "
                            "it is worth it, say why and run tuning/guard.py --record")
    return said


def growth(before: dict[str, int], now: dict[str, int]) -> str:
    more = {call: now[call] - before.get(call, 0) for call in now if call != "total"}
    most = sorted(more, key=more.get, reverse=True)[:3]
    return ", most of all " + ", ".join(f"{call} {more[call]:+,}" for call in most if more[call] > 0)


def print_table(counted: dict):
    print("| upload | instructions per GiB | system calls per GiB | most of them |")
    print("|---|--:|--:|---|")
    for name, costs in counted.items():
        calls = costs["system_calls"]
        most = ", ".join(f"{call} {n:,}" for call, n in list(calls.items())[1:6])
        print(f"| {name} | {costs['instructions'] / 1e6:,.0f} million | {calls['total']:,} | {most} |")


if __name__ == "__main__":
    main()
