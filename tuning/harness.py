"""Starts stores, runs the client, and measures one process at a time. Python standard library only."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HAUL = ROOT / "target" / "release" / "haul"
GIB = 1 << 30
SECRET = "tuning-secret"


def build():
    subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT, check=True)


def random_file(path: Path, size: int):
    """A file of `size` random bytes, in the page cache, written once and reused."""
    if not path.exists() or path.stat().st_size != size:
        with open(path, "wb") as out:
            for _ in range(size >> 20):
                out.write(os.urandom(1 << 20))
            out.write(os.urandom(size & ((1 << 20) - 1)))
    warm(path)
    return path


def warm(path: Path):
    with open(path, "rb", buffering=0) as file:
        while file.read(4 << 20):
            pass


def cold(path: Path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


class Store:
    """`haul serve` on a free port of the loopback, with one bucket `demo`."""

    def __init__(self, store: str, tls: tuple[Path, Path] | None = None, options: tuple[str, ...] = ()):
        command = [HAUL, "serve", "--store", store, "--listen", "127.0.0.1:0", "--access-key-id", "tuning",
                   "--region", "cn-hangzhou", "--bucket", "demo", *options]
        if tls:
            command += ["--tls-cert", tls[0], "--tls-key", tls[1]]
        env = dict(os.environ, OSS_ACCESS_KEY_SECRET=SECRET)
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        self.endpoint = None
        for line in self.process.stdout:
            for word in line.replace("'", " ").split():
                if word.startswith(("http://127.", "https://127.")):
                    self.endpoint = word.rstrip("/.,")
                    break
            if self.endpoint:
                break
        assert self.endpoint, "the store did not say where it listens"

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.endpoint.split("//")[1].split(":")
        return host, int(port)

    def cpu(self) -> float:
        """CPU seconds of the store so far, user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


@dataclass
class Run:
    """One finished process."""
    exit: int
    seconds: float
    cpu: float
    rss_anon_kib: int
    done: dict = field(default_factory=dict)
    stderr: str = ""
    # What `haul put --json` printed, each with the seconds since its start.
    events: list = field(default_factory=list)


def put_command(file: Path, endpoint: str, *options: str, key="object") -> list[str]:
    return [str(HAUL), "put", str(file), f"oss://demo/{key}", "--endpoint", endpoint, "--region", "cn-hangzhou",
            "--json", "--progress", "never", *options]


def put_environment() -> dict[str, str]:
    return dict(os.environ, OSS_ACCESS_KEY_ID="tuning", OSS_ACCESS_KEY_SECRET=SECRET)


def put(file: Path, endpoint: str, *options: str, key="object") -> Run:
    """`haul put`, with its CPU seconds and the peak of RssAnon, sampled every 5 ms."""
    command, env = put_command(file, endpoint, *options, key=key), put_environment()
    with tempfile.TemporaryFile() as err:
        begun = time.monotonic()
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=err, text=True)
        peak = [0]
        sampler = threading.Thread(target=sample_rss_anon, args=(process.pid, peak), daemon=True)
        sampler.start()
        events = [(time.monotonic() - begun, json.loads(line)) for line in process.stdout]
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        err.seek(0)
        last = events[-1][1] if events else {}
        return Run(process.returncode, seconds, usage.ru_utime + usage.ru_stime, peak[0], last, err.read().decode(),
                   events)


def sample_rss_anon(pid: int, peak: list[int]):
    while True:
        try:
            with open(f"/proc/{pid}/status") as status:
                for line in status:
                    if line.startswith("RssAnon:"):
                        peak[0] = max(peak[0], int(line.split()[1]))
        except OSError:
            return
        time.sleep(0.005)


def machine() -> dict:
    with open("/proc/cpuinfo") as info:
        model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), "unknown")
    with open("/proc/sys/net/ipv4/tcp_congestion_control") as setting:
        congestion = setting.read().strip()
    version = subprocess.run([HAUL, "--version"], capture_output=True, text=True).stdout.strip()
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "congestion_control": congestion,
            "haul": version}


def fail(why: str):
    sys.exit(f"{Path(sys.argv[0]).name}: {why}")
