#!/usr/bin/env python3
"""What `haul put` makes of each profile without any option, against every point of a grid of options.

    tuning/grid.py [--gib 2] [--runs 3] [--profile NAME] [--dir DIRECTORY]

The store is `haul serve --store null --shape tuning/profiles/NAME.toml`. A point that would take over a minute gets a
shorter file, and its throughput counts. Every run, and the path that the controller took, goes to
tuning/results/grid.json; the table is printed in Markdown.
"""

import argparse
import json
import statistics
import tempfile
import tomllib
from pathlib import Path

from harness import GIB, ROOT, Store, build, fail, machine, put, random_file, warm

PARALLEL = [2, 4, 8, 16, 32, 64]
PART_MIB = [1, 2, 4, 8, 16, 32]
PROFILES = sorted(path.stem for path in (ROOT / "tuning" / "profiles").glob("*.toml"))
LONGEST = 25  # seconds that a point may take
MB = 1e6


def main():
    arguments = parse()
    build()
    files = Files(Path(arguments.dir), int(arguments.gib * GIB))
    out = ROOT / "tuning" / "results" / "grid.json"
    results = json.loads(out.read_text()) if out.exists() else {"profiles": {}}
    results |= {"machine": machine(), "gib": arguments.gib}
    for name in arguments.profile or PROFILES:
        known = results["profiles"].get(name) if arguments.auto_only else None
        results["profiles"][name] = profile(name, files, arguments.runs, known)
        out.write_text(json.dumps(results, indent=1) + "\n")
        print_table(name, results["profiles"][name])
    print(f"\nwritten to {out.relative_to(ROOT)}")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=2)
    parser.add_argument("--runs", type=int, default=3, help="runs without options, and of the best points of the grid")
    parser.add_argument("--profile", action="append", choices=PROFILES, help="may be repeated; all if left out")
    parser.add_argument("--auto-only", action="store_true", help="keep the grid of tuning/results/grid.json")
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where the test files are made and kept")
    return parser.parse_args()


class Files:
    """Random files of the lengths that are needed."""

    def __init__(self, directory: Path, largest: int):
        self.directory, self.largest = directory, largest

    def of(self, size: int) -> Path:
        size = min(self.largest, max(64 << 20, 1 << (size.bit_length() - 1)))
        file = random_file(self.directory / f"haul-grid-{size >> 20}", size)
        warm(file)
        return file


def profile(name, files, runs, known):
    points, best = (known["points"], known["best"]) if known else grid(name, files, runs)
    automatic = auto(name, files.of(files.largest), runs)
    return {"points": points, "best": best, "auto": automatic, "share": automatic["goodput"] / best["goodput"]}


def grid(name, files, runs):
    """All points, and the best of them."""
    points = []
    for parallel in PARALLEL:
        for part in PART_MIB:
            file = files.of(carried(name, parallel))
            points.append(point(name, file, parallel, part, 1))
            print(f"{name} {parallel} x {part} MiB: {points[-1]['goodput'] / MB:.0f} MB/s", flush=True)
    # One lucky run is no best point: those in front are measured as often as the run without options.
    front = sorted(points, key=lambda p: p["goodput"])[-3:]
    for each in front:
        file = files.of(carried(name, each["parallel"]))
        each |= point(name, file, each["parallel"], each["part_mib"], runs)
    return points, max(front, key=lambda p: p["goodput"])


def carried(name, parallel):
    """Bytes that so many connections carry in the longest time that a point may take."""
    shape = tomllib.loads((ROOT / "tuning" / "profiles" / f"{name}.toml").read_text())
    rate = float(shape["connection-rate"].removesuffix("MB/s")) * MB if "connection-rate" in shape else 1e12
    return int(rate * parallel * LONGEST)


def point(name, file, parallel, part, runs):
    options = ["--parallel", str(parallel), "--part-size", f"{part}MiB"]
    goodput = [upload(name, file, *options).goodput for _ in range(runs)]
    return {"parallel": parallel, "part_mib": part, "mib": file.stat().st_size >> 20, "runs": goodput,
            "goodput": statistics.median(goodput)}


def auto(name, file, runs):
    done = [upload(name, file) for _ in range(runs)]
    middle = sorted(done, key=lambda run: run.goodput)[len(done) // 2]
    return {"runs": [run.goodput for run in done], "goodput": middle.goodput, "part_mib": middle.part_bytes >> 20,
            "parallel": middle.parallel, "seconds": middle.seconds, "path": middle.path}


class Upload:
    """One finished upload: its goodput and the windows that the controller chose, with their times."""

    def __init__(self, run, size):
        self.seconds = run.done["seconds"]
        self.goodput = size / self.seconds
        self.parallel, self.part_bytes = run.done["parallel"], run.done["part_bytes"]
        self.path = [{"seconds": at, "parallel": event["parallel"], "goodput": event["bytes_per_second"]}
                     for at, event in run.events if event["event"] == "window"]


def upload(name, file, *options):
    shape = ROOT / "tuning" / "profiles" / f"{name}.toml"
    with Store("null", options=("--shape", str(shape))) as store:
        run = put(file, store.endpoint, *options)
        if run.exit != 0:
            fail(f"{name} {' '.join(options)}: exit {run.exit}: {run.stderr}")
        return Upload(run, file.stat().st_size)


def print_table(name, result):
    best, automatic = result["best"], result["auto"]
    print(f"\n{name}: MB/s by parts in flight (rows) and MiB of a part (columns)\n")
    print("| | " + " | ".join(str(part) for part in PART_MIB) + " |\n|--:|" + "--:|" * len(PART_MIB))
    for parallel in PARALLEL:
        row = [p["goodput"] / MB for p in result["points"] if p["parallel"] == parallel]
        print(f"| {parallel} | " + " | ".join(f"{goodput:.0f}" for goodput in row) + " |")
    print(f"\nbest {best['goodput'] / MB:.0f} MB/s at {best['parallel']} x {best['part_mib']} MiB; without options "
          f"{automatic['goodput'] / MB:.0f} MB/s, {100 * result['share']:.0f} %, {automatic['part_mib']} MiB, "
          f"{', '.join(str(step['parallel']) for step in automatic['path']) or 'start'} in flight\n")


if __name__ == "__main__":
    main()
