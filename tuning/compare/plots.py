"""Draws one SVG for each condition of a result: CPU as sorted bars with their spread, and throughput against CPU.

    plots.py RESULT.json DIRECTORY

Needs matplotlib, which `run` installs apart.
"""

import json
import re
import sys
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "haul"  # the same figures give the same file
import matplotlib.pyplot as plt  # noqa: E402

GIB = 1 << 30
# Of each kind of row; the legend names those that occur.
COLOURS = {"haul": "#d1495b", "floor": "#8d99ae", "rival": "#30638e", "rival, checks off": "#9dc3e6"}


def main():
    results = json.loads(Path(sys.argv[1]).read_text())
    directory = Path(sys.argv[2])
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*.svg"):
        old.unlink()
    for condition in results["conditions"]:
        done = [case for case in condition["cases"] if not case["failed"]]
        if done:
            draw(results, condition, done, directory / f"{slug(condition['name'])}.svg")


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def draw(results, condition, cases, path):
    scale = GIB / condition["file_bytes"] if condition["per_gib"] else 1000
    unit = "CPU seconds of the client per GiB" if condition["per_gib"] else "CPU of the client, ms"
    cases = sorted(cases, key=lambda case: -median(run["cpu"] for run in case["runs"]))
    height = 1.6 + 0.3 * len(cases)
    figure, (bars, scatter) = plt.subplots(1, 2, figsize=(13, max(height, 5)), gridspec_kw={"width_ratios": [3, 2]})
    draw_bars(bars, cases, scale, unit)
    draw_scatter(scatter, condition, cases, scale, unit)
    machine = results["machine"]
    note = f"PRELIMINARY ({results['preliminary']}). " if results["preliminary"] else ""
    figure.suptitle(condition["name"], x=0.01, ha="left", fontsize=13, fontweight="bold")
    figure.text(0.01, 0.005, f"{note}{machine['cores']} cores of {machine['cpu']}, Linux {machine['kernel']}, "
                f"{machine['congestion_control']}; {results['runs']} runs each, in turn; {results['date']}",
                fontsize=8, color="#555555")
    figure.tight_layout(rect=(0, 0.03, 1, 0.97))
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def draw_bars(axes, cases, scale, unit):
    """Medians; the whiskers reach from the least to the most. Logarithmic: a length is a factor."""
    for i, case in enumerate(cases):
        used = sorted(run["cpu"] * scale for run in case["runs"])
        middle = median(used)
        spread = [[middle - used[0]], [used[-1] - middle]]
        axes.barh(i, middle, xerr=spread, color=COLOURS[kind(case)], height=0.7,
                  error_kw={"elinewidth": 1, "capsize": 2, "ecolor": "#333333"})
        axes.annotate(f"{middle:.3g}", (used[-1], i), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(cases)), [label(case) for case in cases], fontsize=8)
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.01)
    axes.xaxis.set_major_formatter(plain_number)
    axes.xaxis.set_minor_formatter(plain_minor)
    axes.tick_params(axis="x", which="both", labelsize=8)
    axes.set_xlabel(f"{unit} (logarithmic; median, least to most)", fontsize=9)
    quiet(axes)


def draw_scatter(axes, condition, cases, scale, unit):
    """Up and to the left is cheap and fast."""
    points = []
    for case in cases:
        used = median(run["cpu"] * scale for run in case["runs"])
        seconds = median(run["seconds"] for run in case["runs"])
        y = condition["file_bytes"] / seconds / 1e9 if condition["per_gib"] else seconds * 1000
        axes.scatter(used, y, color=COLOURS[kind(case)], s=36, zorder=3)
        points.append((used, y, case["client"] + ("" if case["checks_on"] else " (off)")))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.margins(x=0.3, y=0.1)
    write_beside(axes, points)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(plain_number)
        axis.set_minor_formatter(plain_minor)
    axes.tick_params(which="both", labelsize=8)
    axes.set_xlabel(unit, fontsize=9)
    for name in COLOURS:
        if any(kind(case) == name for case in cases):
            axes.scatter([], [], color=COLOURS[name], s=36, label=name)
    axes.legend(fontsize=8, frameon=False, loc="best")
    axes.set_ylabel("GB/s" if condition["per_gib"] else "start to exit, ms", fontsize=9)
    axes.grid(which="major", color="#e5e5e5", zorder=0)
    quiet(axes)


def write_beside(axes, points, line=8.5, width=80):
    """Names right of their points; where two would overlap, the lower one moves down."""
    axes.figure.canvas.draw()  # settles the limits
    scale = 72 / axes.figure.dpi
    taken = []
    for x, y, name in sorted(points, key=lambda point: -point[1]):
        px, py = axes.transData.transform((x, y)) * scale
        at = py
        for other_x, other_y in sorted(taken, key=lambda other: -other[1]):
            if abs(other_x - px) < width and abs(other_y - at) < line:
                at = other_y - line
        taken.append((px, at))
        axes.annotate(name, (x, y), xytext=(5, at - py), textcoords="offset points", fontsize=7, va="center")


def plain_number(value, _):
    return f"{value:g}"


def plain_minor(value, _):
    """Labels 2 and 5 of each decade; the others would run into each other."""
    return f"{value:g}" if f"{value:e}"[0] in "25" else ""


def quiet(axes):
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def kind(case):
    if case["client"].startswith("haul"):
        return "haul"
    if case["floor"]:
        return "floor"
    return "rival" if case["checks_on"] else "rival, checks off"


def label(case):
    return f"{case['client']}  ({case['checks']})"


if __name__ == "__main__":
    main()
