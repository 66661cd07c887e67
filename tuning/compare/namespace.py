"""Runs the comparison in a private network namespace with another congestion control: nothing outside it changes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

INSIDE = "HAUL_COMPARE_NAMESPACE"
SETTING = Path("/proc/sys/net/ipv4/tcp_congestion_control")


def enter(congestion_control: str):
    """Starts this program again inside; comes back only there. Ends with a line that says why if that is not allowed."""
    if os.environ.get(INSIDE):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        SETTING.write_text(congestion_control)
        return
    if not shutil.which("unshare") or not shutil.which("ip"):
        not_run(congestion_control, "it needs unshare and ip")
    # Root makes one; others may where user namespaces are allowed.
    ways = [["unshare", "--net"], ["unshare", "--map-root-user", "--net"]]
    probe = f"ip link set lo up && echo {congestion_control} > {SETTING}"
    for way in ways:
        if subprocess.run([*way, "sh", "-c", probe], capture_output=True).returncode == 0:
            os.execvpe(way[0], [*way, sys.executable, *sys.argv], dict(os.environ, **{INSIDE: congestion_control}))
    not_run(congestion_control, "this user may not make a network namespace, or the kernel lacks it")


def not_run(congestion_control: str, why: str):
    sys.exit(f"NOT RUN: namespace with {congestion_control}: {why}")
