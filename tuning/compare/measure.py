"""Measures one process: CPU of it and of all its children, time from start to exit, peak of RssAnon; and the page cache."""

import ctypes
import mmap
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from harness import sample_rss_anon  # noqa: E402

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
LIBC.mlock.argtypes = LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Run:
    exit: int
    seconds: float  # from start to exit
    user: float  # CPU seconds, with all children
    system: float
    rss_anon_kib: int  # peak, sampled every 5 ms
    stderr: str
    left_behind: bool  # a child outlived it, whose CPU is not counted

    @property
    def cpu(self) -> float:
        return self.user + self.system


def adopt_orphans():
    """Children whose parent ended become ours instead of init's, so that none of them escapes unseen."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> set[int]:
    """Of all our threads, any of which may have been given an orphan."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found |= {int(pid) for pid in (task / "children").read_text().split()}
        except OSError:
            pass  # that thread just ended; its children are another's now
    return found


def measure(command: list, environment: dict[str, str], timeout_seconds: float) -> Run:
    """Runs a command to its end. `wait4` counts what it and the children it waited for used; others are looked for."""
    before = children()
    with tempfile.TemporaryFile() as err:
        begun = time.monotonic()
        try:
            process = subprocess.Popen([str(word) for word in command], env=environment, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=err)
        except OSError as error:
            return Run(127, 0, 0, 0, 0, f"cannot be started: {error.strerror}", False)
        peak = [0]
        threading.Thread(target=sample_rss_anon, args=(process.pid, peak), daemon=True).start()
        timer = threading.Timer(timeout_seconds, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begun
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        orphans = children() - before
        for orphan in orphans:
            os.kill(orphan, 9)
            os.waitpid(orphan, 0)
        err.seek(0)
        stderr = err.read().decode(errors="replace")
    if seconds >= timeout_seconds:
        stderr = f"took longer than {timeout_seconds:.0f} s"
    return Run(process.returncode, seconds, usage.ru_utime, usage.ru_stime, peak[0], stderr, bool(orphans))


def cached_bytes(path: Path) -> int | None:
    """How much of a file is in the page cache; none if there is no `fincore`."""
    try:
        done = subprocess.run(["fincore", "--bytes", "--noheadings", "--output", "RES", str(path)], capture_output=True,
                              text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return int(done.stdout)


class Pinned:
    """Keeps a file in the page cache. Without the right to lock so much memory it does nothing: the file is read before
    every warm run anyway, and what is cached is looked at."""

    def __init__(self, path: Path):
        self.length = path.stat().st_size
        fd = os.open(path, os.O_RDONLY)
        self.address = LIBC.mmap(None, self.length, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        os.close(fd)
        self.locked = LIBC.mlock(self.address, self.length) == 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        LIBC.munmap(self.address, self.length)
