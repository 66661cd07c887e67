"""What is measured: conditions, each of them the same for every client, and who takes part in which."""

from dataclasses import dataclass
from itertools import product

from clients import Client

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
PART_BYTES = 8 * MIB
SIZES = [100 * MIB, GIB, 4 * GIB]
PARALLEL = [1, 4, 16]


@dataclass(frozen=True)
class Condition:
    scenario: str  # upload, parts, small, startup
    file_bytes: int
    part_bytes: int
    parallel: int
    tls: bool = False
    cold: bool = False

    @property
    def name(self) -> str:
        how = f"{'TLS' if self.tls else 'plain'}, {'cold' if self.cold else 'warm'}"
        return {
            "upload": f"upload {size(self.file_bytes)}, parts of {size(self.part_bytes)} x {self.parallel}, {how}",
            "parts": f"10,000 parts of {size(self.part_bytes)} x {self.parallel}, {how}",
            "small": f"small file of {size(self.file_bytes)}, {how}",
            "startup": "start-up",
        }[self.scenario]

    @property
    def per_gib(self) -> bool:
        """Whether bytes are what costs, rather than the process."""
        return self.scenario in ("upload", "parts")


@dataclass(frozen=True)
class Case:
    client: Client
    checks: bool

    @property
    def name(self) -> str:
        return self.client.name if self.checks else f"{self.client.name}, checks off"


def size(bytes_: int) -> str:
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if bytes_ >= unit:
            return f"{bytes_ / unit:.4g} {name}"
    return f"{bytes_} bytes"


def conditions(sizes: list[int], parallel: list[int], tls: bool, cold: bool) -> list[Condition]:
    ways = [(False, False)] + [(True, False)] * tls + [(False, True)] * cold + [(True, True)] * (tls and cold)
    uploads = [Condition("upload", bytes_, PART_BYTES, n, *way)
               for way, bytes_, n in product(ways, sizes, parallel)]
    others = [Condition("parts", 10_000 * 100 * KIB, 100 * KIB, 4)]
    others += [Condition("small", bytes_, PART_BYTES, 4) for bytes_ in (KIB, 64 * KIB, MIB)]
    return uploads + others + [Condition("startup", KIB, PART_BYTES, 4)]


def cases(condition: Condition, clients: list[Client], extra: list[Client], disk_floor: Client) -> list[Case]:
    """Who takes part: every client as it is by default, and once more with its checks off where there is a switch."""
    if condition.scenario == "parts":  # those that can make such parts and go on after a crash, and the floors
        clients = [c for c in clients if (c.resumable or c.floor) and c.part_min <= condition.part_bytes] + extra
    if condition.scenario in ("small", "startup"):
        clients = [c for c in clients if not c.floor]
    if condition.cold:
        clients = [disk_floor, *clients]
    both = [Case(c, checks) for c in clients for checks in ((True, False) if c.off else (True,))]
    return [case for case in both if case.checks or condition.scenario in ("upload", "parts")]
