"""What is tried in a process of its own, because it could end the process, hang it, or print.

The process runs `main` with this one's import path. It ends with a JSON object on its last line.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

# A machine that is busy, a GPU that wakes up.
_SECONDS = 60.0
_LIBRARY = re.compile(r'([\w.+-]+\.(?:so[.\d]*|dll))"?:? (?:cannot open shared object|which is missing)')
_VERSIONS = re.compile(r"Require (cuDNN \S+ and CUDA \S+?)\. ")
_CALL = "import sys; sys.path[:] = {path!r}; from mclip.doctor.probe import main; main()"


def probe(name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What the probe `name` found in a process of its own: with {"error": why} if it failed.

    Without an answer in time nothing is known: {"error": why, "late": True}, see `step`.
    """
    command = [sys.executable, "-c", _CALL.format(path=sys.path), name, *arguments]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {_SECONDS:.0f} s", "late": True}
    except OSError as error:
        return {"error": f"no process can be started ({error.strerror})"}
    lines, said = done.stdout.decode(errors="replace").splitlines(), done.stderr.decode(errors="replace")
    try:
        found = json.loads(lines[-1])
        if isinstance(found, dict):
            return found | {"error": _reason(said) or found["error"]} if "error" in found else found
    except (IndexError, ValueError):
        pass
    if done.returncode < 0:
        return {"error": f"it crashed ({_signal_name(-done.returncode)})"}
    last = said.strip().splitlines()[-1:]
    return {"error": last[0][:200] if last else f"it ended with {done.returncode}"}


def _reason(said: str) -> str:
    """What onnxruntime and loaders of libraries say on stderr alone: the library that is missing; "" if nothing."""
    library, versions = _LIBRARY.search(said), _VERSIONS.search(said)
    reasons = [f"{library[1]} is missing"] if library else []
    return ", ".join([*reasons, f"this onnxruntime needs {versions[1]}"] if versions else reasons)


def step(found: Mapping[str, Any], fix: str) -> str:
    """What to do about a probe that failed: `fix`, unless the machine was too busy to tell."""
    return "mclip doctor, again, when this machine is less busy" if found.get("late") else fix


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def main() -> None:
    """Run the probe the command line names, and print what it found."""
    probes: dict[str, Callable[..., dict[str, Any]]] = {
        "imports": _imports,
        "provider": _provider,
        "picture": _picture,
        "numba": _numba,
        "film": _film,
        "torch": _torch,
    }
    try:
        found = probes[sys.argv[1]](*sys.argv[2:])
    except Exception as error:
        reason = str(error).strip().partition("\n")[0].removeprefix("[ONNXRuntimeError] : ")[:200]
        found = {"error": f"{type(error).__name__}: {reason}" if reason else type(error).__name__}
    sys.stdout.write("\n" + json.dumps(found) + "\n")
    sys.stdout.flush()
    # Drivers may crash when they are unloaded; what was found is found.
    os._exit(0)


def _imports(*modules: str) -> dict[str, Any]:
    """Which modules cannot be imported, and why."""
    import importlib
    import warnings

    warnings.simplefilter("ignore")
    broken = {}
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            broken[module] = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:150]}"
    return {"broken": broken}


def _provider(name: str) -> dict[str, Any]:
    """Whether a provider of onnxruntime runs a graph, all of it."""
    import numpy as np
    import onnxruntime

    from mclip.doctor.graph import square

    # Why a library cannot be loaded is said on stderr alone, see `_reason`.
    onnxruntime.set_default_logger_severity(2)
    if name == "CUDAExecutionProvider" and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    if name != "CPUExecutionProvider":
        # Otherwise what a provider cannot run is run by the CPU without a word.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = onnxruntime.InferenceSession(square(), options, providers=[name], enable_fallback=0)
    if name not in session.get_providers():
        return {"error": "onnxruntime fell back to the CPU"}
    x = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    if not np.allclose(session.run(None, {"x": x})[0], [[7.0, 10.0], [15.0, 22.0]]):
        return {"error": "it computes wrong numbers"}
    return {}


def _picture(backend: str) -> dict[str, Any]:
    """Whether a renderer draws a body that can be seen."""
    import numpy as np

    from mclip.body.model import load_body
    from mclip.motion import Motion
    from mclip.render.frames import clip_frames

    still = Motion(pose=np.zeros((1, 24, 3), np.float32), transl=np.zeros((1, 3), np.float32), fps=30.0)
    picture = clip_frames(load_body(), still, [0], size=64, backend=backend)[0]
    inked = float((picture < 240).any(axis=-1).mean())
    # A body that stands fills a fifth of its picture.
    return {"inked": inked} if 0.05 < inked < 0.6 else {"error": f"{inked:.0%} of the picture is drawn"}


def _numba() -> dict[str, Any]:
    """Whether numba compiles and runs a function. mclip's own take it ten seconds the first time."""
    import numba

    right = numba.njit(lambda number: 2 * number + 1)(20) == 41
    return {} if right else {"error": "it computes wrong numbers"}


def _film() -> dict[str, Any]:
    """Whether .mp4 can be written."""
    import io

    import av
    import numpy as np

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    return {} if buffer.getvalue()[4:8] == b"ftyp" else {"error": "what it writes is no .mp4"}


def _torch() -> dict[str, Any]:
    """torch's build, whether it computes on its best device, and whether smplx goes with it."""
    import torch

    broken = _imports("smplx")["broken"].get("smplx", "")

    device = "cuda" if torch.cuda.is_available() else "cpu"
    product = torch.ones(2, 2, device=device) @ torch.ones(2, 2, device=device)
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda or "",
        "device": device,
        "name": torch.cuda.get_device_name() if device == "cuda" else "",
        "gpus": torch.cuda.device_count() if device == "cuda" else 0,
        "right": bool((product == 2).all().item()),
        "smplx": broken,
    }
