"""One ONNX graph, ready to run on the device that was asked for."""

from __future__ import annotations

import contextlib
import functools
import io
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from mclip.errors import DeviceError, PackError, UsageError, choices
from mclip.pack import GraphSpec
from mclip.runtime.driver import has_nvidia_driver as _has_nvidia_driver
from mclip.runtime.limits import BYTES_PER_SECOND, SECONDS, limit_memory, watch
from mclip.runtime.onnx_file import check_graph

DEVICES = ("auto", "cpu", "cuda")
# Types of the manifest as onnxruntime has them.
_TYPES = {"float32": "tensor(float)", "int64": "tensor(int64)", "bool": "tensor(bool)", "uint8": "tensor(uint8)"}
_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_FATAL_ONLY = 4


class Session:
    """A graph and the device it really runs on."""

    def __init__(self, model: bytes, name: str, device: str = "auto", *, optimise: bool = True) -> None:
        """Load an ONNX model; name is for messages, device one of DEVICES, "auto" CUDA where it works, else the CPU.

        optimise: whether to spend half of the time a start takes on making runs faster; on CUDA it always is.
        Raises PackError if it is no model, UsageError for no known device, DeviceError if the device cannot be had.
        """
        if device not in DEVICES:
            raise UsageError(f"there is no device {device!r}", choices(device, DEVICES))
        if device == "cuda" and _CUDA not in onnxruntime.get_available_providers():
            raise DeviceError("this onnxruntime is built without CUDA", _GET_CUDA)
        if device == "cuda" and not _has_nvidia_driver():
            raise DeviceError("this machine has no NVIDIA driver", _GET_CUDA)
        self.name = name
        check_graph(model, name)
        self._seconds = SECONDS + len(model) / BYTES_PER_SECOND
        wants_cuda = device == "cuda" or (device == "auto" and _has_nvidia_driver())
        if wants_cuda:
            _load_cuda_libraries()
        self._session = _create(model, name, [_CUDA, _CPU] if wants_cuda else [_CPU], optimise or wants_cuda)
        # onnxruntime lists CUDA without a GPU, and falls back without a word that can be caught.
        self.device = "cuda" if _CUDA in self._session.get_providers() else "cpu"
        if device == "cuda" and self.device != "cuda":
            raise DeviceError("onnxruntime could not start CUDA and fell back to the CPU", _GET_CUDA)
        self.inputs: tuple[str, ...] = tuple(item.name for item in self._session.get_inputs())

    def check(self, spec: GraphSpec) -> None:
        """Raise PackError unless inputs and outputs have the names, types and lengths that the manifest says."""
        for kind, said, found in (
            ("inputs", spec.inputs, self._session.get_inputs()),
            ("outputs", spec.outputs, self._session.get_outputs()),
        ):
            if [tensor.name for tensor in said] != [item.name for item in found]:
                names = ", ".join(item.name[:40] for item in found[:8])
                raise PackError(f"{self.name}: its {kind} are {names}", "re-run mclip export")
            for tensor, item in zip(said, found, strict=True):
                if item.type != _TYPES.get(tensor.dtype) or not _fits(item.shape, tensor.axes):
                    raise PackError(
                        f"{self.name}: {tensor.name[:40]} is {item.type} {item.shape}, "
                        f"the manifest says {tensor.dtype} {list(tensor.axes)}",
                        "copy the pack again, or re-run mclip export",
                    )

    def run(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """The graph's only output for its inputs, in the graph's order. Raises PackError if it cannot take them."""
        feeds = dict(zip(self.inputs, inputs, strict=True))
        with watch.over(self._seconds) as options:
            try:
                result: Any = self._session.run(None, feeds, options)[0]
            except Exception as error:
                if options.terminate:
                    raise PackError(
                        f"{self.name}: a run takes longer than {self._seconds:.0f} s",
                        "use no pack that does; or is this machine very busy?",
                    ) from None
                # onnxruntime's own classes again; the graph is not the one the manifest describes, or memory ran out.
                raise PackError(
                    f"{self.name}: onnxruntime cannot run it ({_reason(error)})", "re-run mclip export"
                ) from None
        if not isinstance(result, np.ndarray) or result.dtype != np.float32 or not np.isfinite(result).all():
            raise PackError(f"{self.name}: gives NaN, infinite or no numbers", "re-run mclip export")
        return result


_GET_CUDA = 'pip install "mclip[cuda]" on a machine with an NVIDIA driver, or leave --device out'


def _create(model: bytes, name: str, providers: list[str], optimise: bool) -> Any:
    options = onnxruntime.SessionOptions()
    if not optimise:
        # Weights stay as they are stored and are turned into fp32 in each run, a layer at a time: no copy of them all.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
    if providers == [_CPU]:
        limit_memory(options)
    # What fails is reported by us, once.
    options.log_severity_level = _FATAL_ONLY
    # Threads that wait for work by spinning make everything else on a busy machine slow, us first (measured: 2 times).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            model,
            options,
            providers=[name for name in providers if name in onnxruntime.get_available_providers()],
            # The fused kernel is slower than its parts on a CPU (measured: 10 to 15 %).
            disabled_optimizers=["SkipLayerNormFusion"],
        )
    except Exception as error:
        # onnxruntime raises a dozen classes of its own for a graph it cannot load.
        raise PackError(
            f"{name}: onnxruntime cannot load it ({_reason(error)})", "pip install -U onnxruntime"
        ) from None


def _fits(shape: Sequence[int | str | None], axes: Sequence[int | str]) -> bool:
    """Whether a shape, as far as the graph gives it, is one that these axes allow."""
    return not shape or (
        len(shape) == len(axes)
        and all(have == want for have, want in zip(shape, axes, strict=True) if {type(have), type(want)} == {int})
    )


def _reason(error: Exception) -> str:
    """The first line of what onnxruntime says."""
    return str(error).partition("\n")[0][:200]


# Graphs start in threads, and stdout is one for all of them.
_LOADING = threading.Lock()


@functools.cache
def _preload() -> None:
    onnxruntime.set_default_logger_severity(_FATAL_ONLY)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(AttributeError):  # before onnxruntime 1.21
        onnxruntime.preload_dlls()


def _load_cuda_libraries() -> None:
    """Find the CUDA libraries pip installed, without the many lines onnxruntime prints where there are none."""
    with _LOADING:
        _preload()
