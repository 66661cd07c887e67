"""Draws what `grid.py` has measured: one SVG for each profile, with the path that the controller took.

    target/compare/plots/bin/python tuning/heatmaps.py

Needs matplotlib, which `tuning/compare/run` installs apart. Writes tuning/results/grid/PROFILE.svg.
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "haul"  # the same figures give the same file
import matplotlib.pyplot as plt  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
MB = 1e6


def main():
    (RESULTS / "grid").mkdir(exist_ok=True)
    for name, result in json.loads((RESULTS / "grid.json").read_text())["profiles"].items():
        draw(name, result, RESULTS / "grid" / f"{name}.svg")


def draw(name: str, result: dict, out: Path):
    figure, (surface, path) = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=(3, 2), layout="constrained")
    best, automatic = result["best"], result["auto"]
    figure.suptitle(f"{name}: best of the grid {best['goodput'] / MB:.0f} MB/s, without options "
                    f"{automatic['goodput'] / MB:.0f} MB/s ({100 * result['share']:.0f} %)", fontsize=11)
    draw_surface(surface, result["points"], best)
    draw_path(path, automatic)
    figure.savefig(out, metadata={"Date": None})
    plt.close(figure)


def draw_surface(axes, points: list[dict], best: dict):
    rows, columns = (sorted({point[key] for point in points}) for key in ("parallel", "part_mib"))
    goodput = {(point["parallel"], point["part_mib"]): point["goodput"] / MB for point in points}
    values = [[goodput[row, column] for column in columns] for row in rows]
    most = max(map(max, values))
    axes.imshow(values, origin="lower", cmap="viridis", aspect="auto", vmin=0, vmax=most)
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            is_best = (rows[y], columns[x]) == (best["parallel"], best["part_mib"])
            axes.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=9, color="black" if value > most / 2 else
                      "white", fontweight="bold" if is_best else "normal")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel="MiB of a part", ylabel="parts in flight", title="MB/s")


def draw_path(axes, automatic: dict):
    """A change is known when it happened, and with it what the number before has carried."""
    seconds = [step["seconds"] for step in automatic["path"]]
    numbers = [step["parallel"] for step in automatic["path"]]
    carried = [step["goodput"] / MB for step in automatic["path"]]
    axes.step([*seconds, automatic["seconds"]], [*numbers, numbers[-1]] if numbers else [0], where="post", color="#30638e")
    for second, number, goodput in zip(seconds, numbers, carried):
        axes.annotate(f"{goodput:.0f} MB/s before", (second, number), textcoords="offset points", xytext=(3, 4), fontsize=8)
    axes.set(xlabel="seconds", ylabel="parts in flight", xlim=(0, automatic["seconds"]), ylim=(0, 1.15 * max([1, *numbers])),
             title=f"the path without options, parts of {automatic['part_mib']} MiB")


if __name__ == "__main__":
    main()
