"""Checks of what onnxruntime can run on."""

from __future__ import annotations

from mclip.doctor.finding import ERROR, OK, WARNING, Finding, Places
from mclip.doctor.packages import has_module
from mclip.doctor.probe import probe, step
from mclip.runtime.driver import has_nvidia_driver

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def providers(places: Places) -> list[Finding]:
    """Each provider that onnxruntime lists: whether it really runs a graph."""
    from concurrent.futures import ThreadPoolExecutor

    if not has_module("onnxruntime"):
        return [Finding("providers", ERROR, "nothing can be run without onnxruntime", "pip install onnxruntime")]
    import onnxruntime

    names = list(onnxruntime.get_available_providers())
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(names, pool.map(lambda name: probe("provider", name), names), strict=True))
    driver = has_nvidia_driver()
    return [
        _cpu(found.get(_CPU, {"error": "it is not listed"})),
        _cuda(found.get(_CUDA), driver),
        *(_other(name, result) for name, result in found.items() if name not in (_CPU, _CUDA)),
    ]


def _cpu(result: dict[str, str]) -> Finding:
    if "error" in result:
        fix = step(result, "pip install --force-reinstall onnxruntime")
        return Finding("cpu", ERROR, f"onnxruntime cannot run a graph: {result['error']}", fix)
    return Finding("cpu", OK, "onnxruntime runs a graph on the processor")


def _cuda(result: dict[str, str] | None, driver: bool) -> Finding:
    if result is not None and "error" not in result:
        return Finding("cuda", OK, "onnxruntime runs a graph on the GPU, all of it")
    if not driver:
        listed = "onnxruntime lists CUDA, but there" if result is not None else "there"
        return Finding("cuda", OK, f"{listed} is no NVIDIA driver: --device auto takes the processor")
    if result is None:
        text = "there is an NVIDIA driver, but this onnxruntime is built without CUDA: commands run on the processor"
        return Finding("cuda", WARNING, text, 'pip uninstall -y onnxruntime\npip install "mclip[cuda]"')
    text = f"listed, but it does not run: {result['error']}. Commands run on the processor"
    return Finding("cuda", WARNING, text, step(result, 'nvidia-smi\npip install -U "mclip[cuda]"'))


def _other(name: str, result: dict[str, str]) -> Finding:
    short = name.removesuffix("ExecutionProvider")
    state = "listed, but it does not run here" if "error" in result else "runs a graph"
    return Finding(short.lower()[:12], OK, f"{state}; mclip does not use it")
