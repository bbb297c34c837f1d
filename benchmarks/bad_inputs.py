"""Bad inputs to all commands: files of tests/golden spoilt in a thousand ways, and options with values of every kind.

    python -m benchmarks.bad_inputs --count 2000 --seed 0

Each is run in a process of its own with a limit on memory and on time. A failure is a traceback, processor time above
10 s, memory above 1 GB, a file outside the output, an exit code that is not of the kind of the input, or with --json a
result that is no JSON. Failures are printed with what makes them again; the last line has the counts.
Training is given recipes and options that it has to refuse; what memory it takes for those it accepts is its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.bad_cases import SOURCES, Assets, Case

MAX_SECONDS, MAX_BYTES = 10, 1_000_000_000
# On a busy machine much more time passes than is used.
MAX_WAIT = 120
TRACEBACK, HANG = 70, -signal.SIGPROF


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder, its size and time of change."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[path.relative_to(folder).as_posix()] = (
            status.st_size if path.is_file() else -1,
            status.st_mtime_ns * path.is_file(),
        )
    return found


def kept(assets: Assets) -> dict[str, tuple[int, int]]:
    """What no command may change: all but the index of a folder that is searched."""
    return {name: state for name, state in snapshot(assets.folder).items() if not name.endswith(".mclip-index")}


def run(case: Case, work: Path) -> tuple[int, int, float]:
    """Exit code (or minus the signal that ended it), bytes of memory at the most, processor time."""
    child = os.fork()
    if child == 0:
        code = TRACEBACK
        try:
            os.chdir(work)
            for number, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(os.open(work.parent / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            used = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]
            # More than is allowed, so that what is taken shows; a bomb ends here.
            resource.setrlimit(resource.RLIMIT_AS, (used + 4 * MAX_BYTES,) * 2)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
            code = command(case.line)
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    before = time.monotonic()
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() - before > MAX_WAIT:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    code = os.waitstatus_to_exitcode(status)
    return code, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime


def command(line: Sequence[str]) -> int:
    """`mclip` in this process; its exit code, or TRACEBACK."""
    import traceback

    from mclip.cli import main

    sys.argv = ["mclip", *line]
    sys.stdout, sys.stderr = (
        open(number, "w", encoding="utf-8", errors="surrogateescape", closefd=False) for number in (1, 2)
    )
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0) if not isinstance(stop.code, str) else TRACEBACK
    except BaseException:
        traceback.print_exc()
        return TRACEBACK
    return 0


def judge(case: Case, code: int, peak: int, work: Path, before: dict[str, Any], out: str, err: str) -> list[str]:
    """What is wrong with how it ended."""
    wrong = []
    if code == HANG or code == -signal.SIGKILL:
        wrong.append("hang")
    elif code == TRACEBACK or "Traceback (most recent call last)" in err:
        wrong.append("traceback")
    elif code < 0:
        wrong.append("crash")
    elif code not in case.codes:
        wrong.append("exit code")
    if peak > MAX_BYTES:
        wrong.append("memory")
    after = snapshot(work)
    if any(after.get(name) != state for name, state in before.items() if name.split("/")[0] not in ("out", "out.h5")):
        wrong.append("input changed")
    new = {name for name in after.keys() - before.keys() if not name.startswith("out")}
    # The index of a library lies in it unless told otherwise.
    if {name for name in new if not name.endswith(".mclip-index")}:
        wrong.append("file outside")
    if code != 0 and any(not name.startswith("out.h5.partial") for name in after.keys() - before.keys() - new):
        wrong.append("left behind")
    # What follows "--" is no option.
    options = case.line[: case.line.index("--")] if "--" in case.line else case.line
    if code == 0 and "--json" in options:
        try:
            json.loads(out)
        except ValueError:
            wrong.append("no JSON")
    return wrong


def main() -> None:
    """Make, run and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="how many distinct inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one of " + ", ".join(source.__name__ for source, _ in SOURCES))
    parser.add_argument("--keep", type=Path, help="a folder for the inputs that fail")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        good = folder / "good"
        good.mkdir()
        os.environ["MCLIP_PACK"] = str(good / "pack")
        os.environ["HOME"] = str(folder)
        assets = Assets(good)
        preload()
        counts = attempt(assets, folder, arguments)
    print(json.dumps(counts))
    sys.exit(1 if counts["failures"] else 0)


def preload() -> None:
    """Import what commands import, so that each child has it already."""
    import importlib

    from mclip.cli import COMMANDS

    for name in COMMANDS:
        importlib.import_module(f"mclip.cli.{name}")
    for name in (
        "api",
        "export.pack",
        "export.official",
        "evaluate.evaluation",
        "train.loop",
        "view.files",
        "view.preview",
    ):
        importlib.import_module(f"mclip.{name}")


def attempt(assets: Assets, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run distinct cases until there are enough; returns the counts."""
    rng = random.Random(arguments.seed)
    chosen = [(source, share) for source, share in SOURCES if arguments.only in (None, source.__name__)]
    streams = [source(assets, rng) for source, _ in chosen]
    shares = [share for _, share in chosen]
    seen: set[str] = set()
    tried: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    refused, failures, most, longest = 0, 0, 0, 0.0
    good = kept(assets)
    while sum(tried.values()) < arguments.count:
        place = rng.choices(range(len(streams)), shares)[0]
        each = next(streams[place], None)
        if each is None:
            shares[place] = 0.0  # all of the corpus was tried
            continue
        if each.digest in seen:
            continue
        seen.add(each.digest)
        work = folder / "work"
        work.mkdir()
        for name, content in each.files:
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_bytes(content)
        before = snapshot(work)
        code, peak, seconds = run(each, work)
        out, err = ((folder / name).read_text(encoding="utf-8", errors="replace") for name in ("stdout", "stderr"))
        problems = judge(each, code, peak, work, before, out, err)
        if kept(assets) != good:
            problems.append("file outside")
            good = kept(assets)
        tried[each.line[0]] += 1
        refused += code != 0
        most, longest = max(most, peak), max(longest, seconds)
        if problems:
            failures += 1
            wrong.update(problems)
            line = " ".join(repr(word) if not word.isprintable() or not word else word for word in each.line)
            how = f"code {code}, {(peak) / 1e6:.0f} MB, {seconds:.1f} s"
            print(f"{', '.join(problems)}: {how}: {each.origin}: mclip {line}")
            print("    " + "\n    ".join(err.strip().splitlines()[-4:]), flush=True)
            if arguments.keep:
                shutil.copytree(work, arguments.keep / f"{failures:04d}-{each.digest[:8]}", symlinks=True)
        shutil.rmtree(work, ignore_errors=True)
    return {
        "benchmark": "bad_inputs",
        "seed": arguments.seed,
        "tried": sum(tried.values()),
        "refused": refused,
        "commands": dict(sorted(tried.items())),
        "failures": failures,
        "kinds": dict(sorted(wrong.items())),
        "most_megabytes": round(most / 1e6),
        "longest_seconds": round(longest, 2),
    }


if __name__ == "__main__":
    main()
