"""Checks of the machine itself: Python, disks, processors, memory."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mclip.doctor.finding import ERROR, OK, WARNING, Finding, Places

_OLDEST = (3, 11)
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
# A pack of the paper's size, and CLIP's weights, are below this.
_LITTLE_DISK = 1_000_000_000
_NO_DISK = 50_000_000
# The mini pack takes 150 MB, a pack of the paper's size four times that.
_LITTLE_MEMORY = 1_000_000_000


def python(places: Places) -> list[Finding]:
    """Python itself, and whether the command `mclip` is this one's."""
    version = platform.python_version()
    inside = "in a virtual environment" if sys.prefix != sys.base_prefix else "without a virtual environment"
    text = f"{version}, {platform.system()} {platform.machine()}, {inside}"
    if sys.version_info < _OLDEST:
        wanted = ".".join(map(str, _OLDEST))
        step = f"python{wanted} -m venv mclip-env"
        return [Finding("python", ERROR, f"{text}; mclip needs {wanted}", step)]
    if sys.maxsize < 2**32:
        step = "install a 64-bit Python"
        return [Finding("python", ERROR, f"{text}, 32 bits: onnxruntime needs 64", step)]
    findings = [Finding("python", OK, text)]
    command = shutil.which("mclip")
    folder = Path(sys.executable).parent
    if command and Path(command).parent.resolve() != folder.resolve() and (folder / "mclip").exists():
        text = f"the command mclip is {command}, of another Python than this one, {sys.executable}"
        findings.append(Finding("python", WARNING, text, f"{sys.executable} -m mclip"))
    return findings


def command_line(places: Places) -> list[Finding]:
    """Whether help is shown (typer and click have broken each other), and names can be."""
    call = f"import sys; sys.path[:] = {sys.path!r}; from mclip.cli import main; main()"
    command = [sys.executable, "-c", call, "generate", "--help"]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
        trouble = "" if done.returncode == 0 and b"--seconds" in done.stdout else _last(done.stderr)
    except (OSError, subprocess.TimeoutExpired) as error:
        trouble = str(error)[:200]
    if trouble:
        text = f"mclip generate --help fails: {trouble}"
        return [Finding("command line", ERROR, text, 'pip install "typer>=0.26,<0.29" -U click')]
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    if encoding.replace("-", "") not in ("utf8", "utf8sig"):
        text = f"stdout is {encoding}: names in other alphabets are shown escaped"
        return [Finding("command line", WARNING, text, "export PYTHONUTF8=1")]
    return [Finding("command line", OK, "help is shown, names are printed in UTF-8")]


def _last(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it says nothing"


def disk(places: Places) -> list[Finding]:
    """Where outputs, temporary files and downloads go."""
    from mclip.nn.download import cache_folder

    wanted = {"here": Path.cwd(), "temporary": Path(tempfile.gettempdir()), "downloads": cache_folder()}
    return [_disk(name, folder) for name, folder in wanted.items()]


def _disk(name: str, folder: Path) -> Finding:
    there = next((each for each in (folder, *folder.parents) if each.is_dir()), folder)
    steps = {
        "here": "cd somewhere else, or choose a folder with -o",
        "temporary": "export TMPDIR=some/folder",
        "downloads": "export XDG_CACHE_HOME=some/folder",
    }
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
        free = shutil.disk_usage(there).free
    except OSError as error:
        text = f"{folder}: cannot be written ({error.strerror or error})"
        return Finding(f"disk {name}", ERROR if name == "temporary" else WARNING, text, steps[name])
    text = f"{folder}: {free / 1e9:.1f} GB free"
    if free < _LITTLE_DISK:
        status = ERROR if free < _NO_DISK and name != "downloads" else WARNING
        return Finding(f"disk {name}", status, text, f"free some space, or {steps[name]}")
    return Finding(f"disk {name}", OK, text)


def processors(places: Places) -> list[Finding]:
    """How many processors there are, how many may be used, and what the environment says about threads."""
    cores = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    quota = _quota()
    text = f"{cores} processors" + (f", {usable} of them for this process" if usable < cores else "")
    findings = []
    if quota is not None and quota < usable:
        text += f", {quota:.1f} of their time by the container's limit"
        # onnxruntime counts processors, not the container's limit.
        step = f"taskset -c 0-{max(round(quota), 1) - 1} mclip ..."
        findings.append(Finding("threads", WARNING, f"{text}: more threads than that get in each other's way", step))
    named = {name: os.environ[name] for name in _THREADS if name in os.environ}
    for name, value in named.items():
        if not re.fullmatch(r"[1-9][0-9]{0,3}", value):
            findings.append(Finding("threads", WARNING, f"{name} is {value!r}, no number of threads", f"unset {name}"))
        elif int(value) > usable:
            more = f"{name} is {value}, more than the {usable} processors"
            findings.append(Finding("threads", WARNING, more, f"export {name}={usable}"))
    shown = f"; {', '.join(f'{name}={value}' for name, value in named.items())}" if named else ""
    return findings or [Finding("threads", OK, text + shown)]


def _quota() -> float | None:
    """Processors' worth of time that a container may use; None where there is no limit."""
    try:
        limit, _, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").strip().partition(" ")
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def memory(places: Places) -> list[Finding]:
    """Memory that is free."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = {name: 1024 * int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        free, whole = sizes["MemAvailable"], sizes["MemTotal"]
    except (OSError, ValueError, KeyError, IndexError):
        return []  # not Linux: nothing in Python tells
    text = f"{free / 1e9:.1f} of {whole / 1e9:.1f} GB free"
    if free < _LITTLE_MEMORY:
        return [Finding("memory", WARNING, f"{text}: large packs and training may not fit", "close other programs")]
    return [Finding("memory", OK, text)]
