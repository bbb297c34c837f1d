"""What works on this machine, and how to fix what does not: checks, each of which gives findings.

Each check is a function of `Places` that returns findings, imports what it looks at inside, and goes down alone. What
could end or hang a process (drivers, compiled packages) is tried in one of its own, see mclip.doctor.probe. Nothing
here uses a network, and nothing is written but temporary files.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from mclip.doctor import assets, devices, graphics, machine, packages, packs
from mclip.doctor.finding import ERROR, OK, WARNING, Finding, Places
from mclip.errors import MclipError

__all__ = ["CHECKS", "ERROR", "OK", "WARNING", "Finding", "Places", "examine"]

CHECKS: tuple[Callable[[Places], list[Finding]], ...] = (
    machine.python,
    packages.required,
    packages.onnxruntime,
    packages.extras,
    packages.conflicts,
    packages.known_trouble,
    machine.command_line,
    devices.providers,
    packs.default,
    graphics.pictures,
    graphics.opengl,
    graphics.film,
    graphics.browser,
    packages.torch,
    assets.bodies,
    assets.clip_weights,
    assets.minilm_weights,
    assets.amass,
    assets.babel,
    machine.disk,
    machine.processors,
    machine.memory,
)
# Names of findings where they are not those of the checks.
_NAMES = {
    "default": "mini pack",
    "bodies": "body",
    "clip_weights": "CLIP weights",
    "minilm_weights": "MiniLM weights",
    "amass": "AMASS",
    "babel": "BABEL",
}
# Most of them wait for processes.
_AT_ONCE = 6


def examine(places: Places) -> list[Finding]:
    """Make all checks, several at once; their findings in the order of CHECKS."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [finding for found in pool.map(lambda check: _alone(check, places), CHECKS) for finding in found]


def _alone(check: Callable[[Places], list[Finding]], places: Places) -> list[Finding]:
    """What a check finds; what it raises is a finding as well."""
    name = _NAMES.get(check.__name__) or check.__name__.replace("_", " ")
    try:
        return check(places)
    except MclipError as error:
        return [Finding(name, ERROR, error.message, error.hint)]
    except ModuleNotFoundError as error:
        return [Finding(name, ERROR, f"the package {error.name} is missing", 'pip install --force-reinstall "mclip"')]
    except Exception as error:
        # Whatever a broken installation raises, the other checks are worth making.
        return [Finding(name, ERROR, f"cannot be checked ({type(error).__name__}: {error})", "mclip doctor --verbose")]
