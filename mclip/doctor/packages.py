"""Checks of installed packages: what is there, what is missing, what does not go together."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING

from mclip import __version__
from mclip.doctor.finding import ERROR, OK, WARNING, Finding, Places
from mclip.doctor.probe import probe, step
from mclip.runtime.driver import has_nvidia_driver

if TYPE_CHECKING:
    from packaging.requirements import Requirement

# Wheels that all install the module `onnxruntime`, over each other.
_RUNTIMES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-rocm",
    "onnxruntime-qnn",
    "onnxruntime-silicon",
    "onnxruntime-training",
)
# Modules whose names are not their packages'.
_MODULES = {"openai-clip": "clip", "pyyaml": "yaml", "pillow": "PIL", "onnxruntime-gpu": "onnxruntime"}
_EXTRAS = {
    "train": "preprocess, train, export and evaluate",
    "mp4": "view -o FILE.mp4",
    "dask": "--dask",
}
# Imported by checks of their own; `import clip` needs an old setuptools, and is not what mclip does.
_ELSEWHERE = ("clip", "torch", "smplx", "pyrender", "onnxscript", "av")
# (package, what it requires): wanted by no one who knows better. PyOpenGL 3.1.0 cannot use OSMesa, newer ones can.
_HARMLESS = {("pyrender", "pyopengl")}


def version_of(package: str) -> str | None:
    """The version of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def has_module(name: str) -> bool:
    """Whether a module can be found; it is not imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _requirements(package: str) -> tuple[Requirement, ...]:
    """What an installed package requires, for all its extras; none if it is not installed."""
    from packaging.requirements import InvalidRequirement, Requirement

    found = []
    try:
        listed = metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return ()
    for line in listed:
        try:
            found.append(Requirement(line))
        except InvalidRequirement:
            continue  # packages of other times
    return tuple(found)


def _needed(package: str, extra: str = "") -> list[Requirement]:
    """What a package requires here: itself, or additionally for an extra."""
    base = {str(each) for each in _requirements(package) if each.marker is None or each.marker.evaluate({"extra": ""})}
    if not extra:
        return [each for each in _requirements(package) if str(each) in base]
    return [
        each
        for each in _requirements(package)
        if str(each) not in base and each.marker is not None and each.marker.evaluate({"extra": extra})
    ]


def _complaint(requirement: Requirement) -> str:
    """What is wrong with what is installed of it: "" for nothing."""
    found = version_of(requirement.name)
    if found is None or not has_module(_MODULES.get(requirement.name, requirement.name.replace("-", "_"))):
        return f"{requirement.name} is missing"
    if not requirement.specifier.contains(found, prereleases=True):
        return f"{requirement.name} is {found}, not {requirement.specifier}"
    return ""


def _plain(requirement: Requirement) -> str:
    """As pip takes it."""
    return f'"{requirement.name}{requirement.specifier}"'


def required(places: Places) -> list[Finding]:
    """What every command needs. onnxruntime has a check of its own."""
    installed = version_of("mclip")
    if installed is None:
        return [Finding("packages", WARNING, f"mclip {__version__} runs without being installed", "pip install .")]
    needed = [each for each in _needed("mclip") if each.name not in _RUNTIMES]
    wrong = {each: complaint for each in needed if (complaint := _complaint(each))}
    if wrong:
        fix = f"pip install {' '.join(map(_plain, wrong))}"
        return [Finding("packages", ERROR, "; ".join(wrong.values()), fix)]
    modules = [_MODULES.get(each.name, each.name.replace("-", "_")) for each in needed]
    broken, fix = _broken(modules)
    if broken:
        return [Finding("packages", ERROR, broken, fix)]
    versions = ", ".join(f"{each.name} {version_of(each.name)}" for each in needed)
    findings = [Finding("packages", OK, f"mclip {__version__}; {versions}")]
    if installed != __version__:
        text = f"mclip {__version__} runs, but {installed} is what pip installed: two copies are in reach"
        findings.append(Finding("packages", WARNING, text, "pip install --force-reinstall --no-deps ."))
    return findings


def _broken(modules: list[str]) -> tuple[str, str]:
    """Which modules cannot be imported, and why; and what to do: "" twice if all can."""
    found = probe("imports", *modules)
    if "error" in found:
        return f"importing them fails ({found['error']})", step(found, "mclip doctor --verbose")
    broken = found["broken"]
    text = "; ".join(f"{name} cannot be imported ({why})" for name, why in broken.items())
    packages = {module: package for package, module in _MODULES.items()}
    names = " ".join(packages.get(name, name) for name in broken)
    return text, f"pip install --force-reinstall {names}" if broken else ""


def onnxruntime(places: Places) -> list[Finding]:
    """Exactly one of the wheels that are onnxruntime."""
    installed = {name: found for name in _RUNTIMES if (found := version_of(name))}
    ours = next((each for each in _needed("mclip") if each.name in _RUNTIMES), None)
    wanted = _plain(ours) if ours else "onnxruntime"
    if len(installed) > 1:
        text = (
            f"{' and '.join(installed)} are both installed, over each other: GPUs may be hidden, and uninstalling one "
            f"breaks the other"
        )
        return [Finding("onnxruntime", ERROR, text, f"pip uninstall -y {' '.join(installed)}\npip install {wanted}")]
    if not installed:
        if has_module("onnxruntime"):
            return [Finding("onnxruntime", OK, "installed, but not by pip")]
        return [Finding("onnxruntime", ERROR, "onnxruntime is missing", f"pip install {wanted}")]
    ((name, found),) = installed.items()
    if not has_module("onnxruntime"):
        fix = f"pip install --force-reinstall {name}"
        return [Finding("onnxruntime", ERROR, f"{name} {found} is installed, but its files are missing", fix)]
    if ours and not ours.specifier.contains(found, prereleases=True):
        fix = f'pip install -U "{name}{ours.specifier}"'
        return [Finding("onnxruntime", ERROR, f"{name} is {found}, not {ours.specifier}", fix)]
    return [Finding("onnxruntime", OK, f"{name} {found}")]


def extras(places: Places) -> list[Finding]:
    """The optional parts: complete, or what is missing."""
    findings = []
    for extra, commands in _EXTRAS.items():
        needed = [each for each in _needed("mclip", extra) if each.name != "mclip"]
        wrong = [complaint for each in needed if (complaint := _complaint(each))]
        if wrong:
            fix = f'pip install "mclip[{extra}]"'
            findings.append(Finding(f"extra {extra}", WARNING, f"{'; '.join(wrong)}: needed by {commands}", fix))
            continue
        modules = [_MODULES.get(each.name, each.name.replace("-", "_")) for each in needed]
        broken, fix = _broken([module for module in modules if module not in _ELSEWHERE])
        if broken:
            findings.append(Finding(f"extra {extra}", WARNING, f"{broken}: needed by {commands}", fix))
        elif needed:
            versions = ", ".join(f"{each.name} {version_of(each.name)}" for each in needed)
            findings.append(Finding(f"extra {extra}", OK, versions))
    return findings


def conflicts(places: Places) -> list[Finding]:
    """Packages in reach of ours that want another version of what is installed, or something that is not."""
    found = list(_conflicts())
    if not found:
        return [Finding("conflicts", OK, "none among the packages mclip uses")]
    return [Finding("conflicts", WARNING, text, fix) for text, fix in found]


def _conflicts() -> Iterator[tuple[str, str]]:
    from packaging.utils import canonicalize_name

    waiting = [each.name for extra in ("", *_EXTRAS) for each in _needed("mclip", extra)]
    visited: set[str] = set()
    while waiting:
        package = canonicalize_name(waiting.pop())
        version = version_of(package)
        if package in visited or version is None:
            continue
        visited.add(package)
        for each in _needed(package):
            name = canonicalize_name(each.name)
            waiting.append(name)
            if (package, name) in _HARMLESS:
                continue
            found = version_of(name)
            if found is None and name in _RUNTIMES:
                continue
            if found is None:
                yield f"{package} {version} needs {name}, which is missing", f"pip install {_plain(each)}"
            elif not each.specifier.contains(found, prereleases=True):
                yield (
                    f"{package} {version} wants {name}{each.specifier}, there is {found}",
                    f"pip install {_plain(each)}",
                )


def known_trouble(places: Places) -> list[Finding]:
    """Packages that people meet errors with, and whether that matters here."""
    findings = []
    setuptools, clip = version_of("setuptools"), version_of("openai-clip")
    if clip is not None:
        if has_module("clip"):
            text = f"openai-clip {clip}: its model is read from its file"
            # pkg_resources left with 82.
            if setuptools is None or int(setuptools.partition(".")[0]) >= 82:
                text += "; `import clip` itself fails, as setuptools has no pkg_resources any more, which mclip avoids"
            findings.append(Finding("openai-clip", OK, text))
        else:
            fix = "pip install --force-reinstall --no-deps openai-clip"
            findings.append(Finding("openai-clip", WARNING, f"openai-clip {clip} has lost its files", fix))
    if version_of("clip") is not None and clip is None:
        text = "the package clip is installed, which is openai-clip's name elsewhere; mclip needs it by this name"
        findings.append(Finding("openai-clip", WARNING, text, 'pip uninstall -y clip\npip install "mclip[train]"'))
    if (chumpy := version_of("chumpy")) is not None:
        text = f"chumpy {chumpy} is installed; mclip reads SMPL's .pkl files without it, numpy 1.24 and newer break it"
        findings.append(Finding("chumpy", OK, text))
    if (smplx := version_of("smplx")) is not None:
        text = f"smplx {smplx}, given mclip's own body or yours: it needs no model files. Its licence is non-commercial"
        findings.append(Finding("smplx", OK, text))
    return findings


def torch(places: Places) -> list[Finding]:
    """Which build of torch there is, and what it computes on."""
    if not has_module("torch"):
        text = "not installed; needed by train, export and evaluate only"
        return [Finding("torch", WARNING, text, 'pip install "mclip[train]"')]
    found = probe("torch")
    if "error" in found:
        fix = step(found, "pip install --force-reinstall torch")
        return [Finding("torch", WARNING, f"cannot be used: {found['error']}", fix)]
    version = found["version"]
    if not found["right"]:
        text = f"{version} computes wrong numbers on {found['device']}"
        return [Finding("torch", WARNING, text, "pip install --force-reinstall torch")]
    if found["smplx"] and version_of("smplx"):
        text = f"{version} works, but smplx cannot be imported ({found['smplx']})"
        return [Finding("torch", WARNING, text, "pip install --force-reinstall --no-deps smplx")]
    if found["device"] == "cuda":
        more = f" and {found['gpus'] - 1} more" if found["gpus"] > 1 else ""
        return [Finding("torch", OK, f"{version} computes on {found['name']}{more}")]
    if has_nvidia_driver():
        why = f"built for CUDA {found['cuda']}, but cannot use the GPU" if found["cuda"] else "a build without CUDA"
        text = f"{version} is {why}: training runs on the processor"
        return [Finding("torch", WARNING, text, "nvidia-smi\npip install --force-reinstall torch")]
    return [Finding("torch", OK, f"{version} computes on the processor: there is no NVIDIA driver")]
