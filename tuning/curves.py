"""Draws what `scaling.py` has measured: throughput and CPU by number of cores.

    target/compare/plots/bin/python tuning/curves.py

Needs matplotlib, which `tuning/compare/run` installs apart. Writes tuning/results/scaling.svg.
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "haul"  # the same figures give the same file
import matplotlib.pyplot as plt  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
COLOURS = {"mmap": "#d1495b", "pread": "#30638e", "uring": "#2a9d8f", "floor-mmap-crc64": "#8d99ae"}
FIGURES = [("gb_per_s", "GB/s"), ("cpu_s_per_gib", "CPU seconds of the client per GiB")]


def main():
    results = json.loads((RESULTS / "scaling.json").read_text())
    figure, rows = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    machine = results["machine"]
    figure.suptitle(f"haul put on {machine['cores']} cores of {machine['cpu']}, Linux {machine['kernel']}, "
                    f"{machine['congestion_control']}", fontsize=11)
    for tls, row in zip((False, True), rows):
        for figure_axes, (key, label) in zip(row, FIGURES):
            draw(figure_axes, [done for done in results["rows"] if done["tls"] == tls], key, label)
            figure_axes.set_title("TLS" if tls else "plain")
    figure.savefig(RESULTS / "scaling.svg", metadata={"Date": None})


def draw(axes, rows: list[dict], key: str, label: str):
    """A hollow mark is a row in which the store shared the client's cores."""
    for name, colour in COLOURS.items():
        line = sorted((row for row in rows if row["name"] == name), key=lambda row: row["cores"])
        if not line:
            continue
        axes.plot([row["cores"] for row in line], [row[key] for row in line], color=colour, label=name)
        for row in line:
            axes.plot(row["cores"], row[key], "o", color=colour, fillstyle="none" if row["shared_with_store"] else "full")
    if rows:
        cores = sorted({row["cores"] for row in rows})
        axes.set_xscale("log", base=2)
        axes.set_xticks(cores, cores)
        axes.minorticks_off()
        axes.legend(fontsize=8)
    axes.set(xlabel="cores of the client (hollow: shared with the store)", ylabel=label, ylim=(0, None))
    axes.grid(color="#e6eaef")


if __name__ == "__main__":
    main()
