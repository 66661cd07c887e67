"""The table of a run, in Markdown."""

from statistics import median

GIB = 1 << 30


def render(results: dict) -> str:
    machine = results["machine"]
    lines = ["# haul beside its rivals", ""]
    if results["preliminary"]:
        lines += [f"**Preliminary: {results['preliminary']}. These figures are no evidence of anything.**", ""]
    lines += [
        f"{machine['cores']} cores of {machine['cpu']}, Linux {machine['kernel']}, congestion control "
        f"{machine['congestion_control']}, {results['date']}; {results['runs']} runs of each client, in turn, after one "
        "that is not counted.",
        "",
        f"Store: {results['store']}. Client and store share the cores: CPU of the client is the figure to compare, GB/s is "
        "what both reach together. CPU and time are those of the whole process, start-up included; medians, with minimum "
        "and maximum. `checks` is what a client computes over plain HTTP, `sums sent` what came with a part. `x haul` is the "
        "median of the ratios within a round.",
        "",
    ]
    for condition in results["conditions"]:
        lines += section(condition)
    lines += ["## Not here", ""] + [f"- {name}: {why}" for name, why in results["not_here"].items()] + [""]
    lines += ["## Versions", ""] + [f"- {name}: {version}" for name, version in results["versions"].items()] + [""]
    return "\n".join(lines)


def section(condition: dict) -> list[str]:
    lines = [f"## {condition['name']}", ""]
    if not condition["per_gib"]:
        lines += rows(condition, condition["cases"], False)
    else:
        checked = [case for case in condition["cases"] if case["checks_on"]]
        # Clients that check nothing stand in both; so does haul, which cannot be told not to.
        off = [case for case in condition["cases"]
               if not case["checks_on"] or case["checks"] == "none" or is_haul(case)]
        lines += ["Checksums as each has them by default:", ""] + rows(condition, checked, True)
        if any(not case["checks_on"] for case in condition["cases"]):
            lines += ["Checksums off:", ""] + rows(condition, off, True)
    return lines


def is_haul(case: dict) -> bool:
    return case["client"].startswith("haul")


def rows(condition: dict, cases: list[dict], per_gib: bool) -> list[str]:
    gib = condition["file_bytes"] / GIB
    reference = next((case for case in condition["cases"] if is_haul(case) and not case["failed"]), None)
    unit, rate = ("CPU-s/GiB", "GB/s") if per_gib else ("CPU ms", "ms")
    columns = ["client", "checks", "sums sent", unit, "x haul", rate, "RssAnon MiB"]
    columns += ["in page cache after, MiB"] * condition["cold"] + ["cipher suite"] * condition["tls"]
    lines = [cells(columns), cells("--:" if "MiB" in c or c in (unit, "x haul", rate) else "---" for c in columns)]
    for case in sorted(cases, key=lambda case: (bool(case["failed"]), cpu(case))):
        if case["failed"]:
            lines.append(cells([case["client"], case["checks"], "", f"failed: {case['failed']}"]))
            continue
        runs = case["runs"]
        used = [run["cpu"] * (1 / gib if per_gib else 1000) for run in runs]
        seconds = [run["seconds"] for run in runs]
        speed = median(condition["file_bytes"] / s / 1e9 for s in seconds) if per_gib else median(seconds) * 1000
        middle, least, most = (f"{value:.{3 if per_gib else 1}f}" for value in (median(used), min(used), max(used)))
        row = [case["client"], case["checks"], case["sums_sent"], f"{middle} ({least}-{most})",
               f"{ratios(case, reference):.2f}" if reference else "", f"{speed:.2f}", f"{peak(runs):.1f}"]
        row += [in_mib([run["cached_after"] for run in runs])] * condition["cold"]
        lines.append(cells(row + [case["cipher"]] * condition["tls"]))
    return lines + [""]


def in_mib(values: list) -> str:
    return "unknown" if None in values else f"{median(values) / (1 << 20):.0f}"


def cells(texts) -> str:
    return "| " + " | ".join(texts) + " |"


def summary(case: dict, file_bytes: int, per_gib: bool) -> str:
    """A line for the terminal."""
    if case["failed"]:
        return f"failed: {case['failed']}"
    seconds = median(run["seconds"] for run in case["runs"])
    if not per_gib:
        return f"{cpu(case) * 1000:8.1f} CPU ms    {seconds * 1000:8.1f} ms    RssAnon {peak(case['runs']):6.1f} MiB"
    return (f"{cpu(case) / (file_bytes / GIB):8.3f} CPU-s/GiB {file_bytes / seconds / 1e9:8.2f} GB/s  "
            f"RssAnon {peak(case['runs']):6.1f} MiB")


def cpu(case: dict) -> float:
    return median(run["cpu"] for run in case["runs"]) if case["runs"] else 0


def peak(runs: list[dict]) -> float:
    return max(run["rss_anon_kib"] for run in runs) / 1024


def ratios(case: dict, reference: dict) -> float:
    """Round by round: what drifts in the machine drifts for both."""
    other = {run["round"]: run["cpu"] for run in reference["runs"]}
    return median(run["cpu"] / other[run["round"]] for run in case["runs"] if other.get(run["round"]))
