"""A motion, and the AMASS-compatible .npz it is stored in.

What we write (and what we MUST be able to read back):

    poses            (T, 156) float32   axis-angle, radians, SMPL+H joint order (52 joints)
    trans            (T, 3)   float32   metres, Z up
    betas            (10,)    float32   shape
    gender           str                "neutral", "female" or "male"
    mocap_framerate  float64            frames per second
    mclip            str                JSON: where the motion comes from, and which axis is up if not Z

What we write if asked: `poses` of plain SMPL, 72 wide, or of SMPL-X, 165 wide, with AMASS's other names for both.
`trans` is the same in all layouts; SMPL-X has its pelvis elsewhere in its rest pose, so that its body stands higher or
lower by centimetres.

What we read besides: SMPL-X (165 wide, `mocap_frame_rate`), plain SMPL (72), any frame rate, any number of betas, body
poses split into `root_orient` and `pose_body`. Format: https://amass.is.tue.mpg.de. Nothing is ever unpickled.
"""

from __future__ import annotations

import importlib
import io
import json
import math
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mclip import __version__
from mclip.errors import MotionError
from mclip.files import write_bytes
from mclip.geometry import (
    Y_UP_TO_Z_UP,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    quaternion_to_axis_angle,
    slerp,
)
from mclip.npz import read_npz
from mclip.skeleton.smpl import REST_JOINTS, SMPLH_TO_SMPL, SMPLX_TO_SMPL

MIN_FPS, MAX_FPS = 1.0, 1000.0
# Three hours at 120 fps; AMASS's longest recording is a few minutes.
MAX_FRAMES = 1_296_000
# Whoever is farther out than this, or wound up that far, is a mistake in the file or its units; float32 ends there too.
MAX_METRES, MAX_RADIANS, MAX_BETA = 1e6, 1e4, 1e3
# Bytes of each array that is read: float64 of MAX_FRAMES frames, poses of SMPL-X being the widest; AMASS files with
# marker data stay well below. A shape has 300 numbers at most, a gender is a word, the origin a page of text.
_PER_FRAME = {"poses": 165, "root_orient": 3, "pose_body": 63, "trans": 3, "transl": 3}
LIMITS: Mapping[str, int] = {
    **{name: MAX_FRAMES * width * 8 for name, width in _PER_FRAME.items()},
    **dict.fromkeys(("betas", "gender", "mocap_framerate", "mocap_frame_rate", "fps"), 1_000_000),
    "mclip": 4_000_000,
}
# Frames resampled at a time: matrices and quaternions of all frames of a long recording would be gigabytes.
_BLOCK = 16_384
GENDERS = ("neutral", "female", "male")
# Layouts of `poses`: their width in joints, and which of them are SMPL's.
LAYOUTS: Mapping[str, tuple[int, tuple[int, ...]]] = {
    "smpl": (24, tuple(range(24))),
    "smplh": (52, SMPLH_TO_SMPL),
    "smplx": (55, SMPLX_TO_SMPL),
}
# Numbers of a frame of root and body alone.
_WITHOUT_HANDS = 66


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Motion:
    """A body motion sampled at a constant rate.

    pose    (T, 24, 3) float32, local joint rotations, axis-angle, radians; joint 0 is the root in the world
    transl  (T, 3) float32, root translation, metres, Z up; the pelvis lies at transl + rest_joints[0]
    fps     frames per second
    betas   (10,) float32, SMPL shape
    gender  "neutral", "female" or "male"
    origin  where it comes from: command, prompt, pack, seed, version (stored as JSON)

    Raises MotionError for wrong shapes, no frames, values that are not finite or absurd, or an absurd frame rate.
    """

    pose: NDArray[np.float32]
    transl: NDArray[np.float32]
    fps: float
    betas: NDArray[np.float32] = field(default_factory=lambda: np.zeros(10, np.float32))
    gender: str = "neutral"
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pose.ndim != 3 or self.pose.shape[1:] != (24, 3) or self.transl.shape != (len(self.pose), 3):
            raise MotionError(
                f"pose has shape {self.pose.shape} and transl {self.transl.shape}, not (T, 24, 3) and (T, 3)"
            )
        if len(self.pose) == 0:
            raise MotionError("the motion has no frames")
        if not (MIN_FPS <= self.fps <= MAX_FPS):
            raise MotionError(f"the frame rate is {self.fps:g}, not between {MIN_FPS:g} and {MAX_FPS:g} per second")
        for name, values, limit in (
            ("pose", self.pose, MAX_RADIANS),
            ("transl", self.transl, MAX_METRES),
            ("betas", self.betas, MAX_BETA),
        ):
            if not np.isfinite(values).all():
                raise MotionError(f"{name} holds NaN or infinite values")
            if (np.abs(values) > limit).any():
                raise MotionError(f"{name} holds {np.abs(values).max():.3g}, more than {limit:g}", "what is its unit?")

    def __repr__(self) -> str:
        what = self.origin.get("text") or self.origin.get("prompt") or self.origin.get("source")
        return f"<mclip.Motion{f' {what!r}' if what else ''}, {len(self)} frames at {self.fps:g} fps>"

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.pose)

    @property
    def seconds(self) -> float:
        """The time covered, one frame lasting 1 / fps."""
        return len(self) / self.fps

    def slice(self, start: int, stop: int) -> Motion:
        """Frames start to stop (exclusive)."""
        return replace(self, pose=self.pose[start:stop], transl=self.transl[start:stop])

    def resample(self, fps: float) -> Motion:
        """The same motion at another rate: rotations by spherical, positions by linear interpolation.

        The first frame stays; the last new frame is the last that lies within the recording.
        Raises MotionError when that makes more than MAX_FRAMES.
        """
        if abs(fps - self.fps) < 1e-6 * fps:
            return replace(self, fps=fps)
        frames = int(np.floor((len(self) - 1) * fps / self.fps + 1e-6)) + 1
        if frames > MAX_FRAMES:
            raise MotionError(f"{self.seconds:.0f} seconds at {fps:g} frames per second are more than {MAX_FRAMES}")
        pose, transl = np.empty((frames, 24, 3), np.float32), np.empty((frames, 3), np.float32)
        for start in range(0, frames, _BLOCK):
            block = slice(start, min(start + _BLOCK, frames))
            at = np.minimum(np.arange(block.start, block.stop) * (self.fps / fps), len(self) - 1)
            low = at.astype(np.int64)
            high = np.minimum(low + 1, len(self) - 1)
            fraction = at - low
            used = slice(int(low[0]), int(high[-1]) + 1)
            quaternion = matrix_to_quaternion(axis_angle_to_matrix(self.pose[used].astype(np.float64)))
            before, after = quaternion[low - used.start], quaternion[high - used.start]  # (T, 24, 4)
            pose[block] = quaternion_to_axis_angle(slerp(before, after, fraction[:, None]))
            transl[block] = self.transl[low] + fraction[:, None] * (self.transl[high] - self.transl[low])
        return replace(self, pose=pose, transl=transl, fps=fps)

    def show(self) -> Any:
        """A page that plays the motion, which notebooks show as it is: an mclip.Page."""
        # Pages are made by layers above, which no line of this one may name.
        return importlib.import_module("mclip").show(self)

    def save(self, path: str | Path, *, layout: str = "smplh", up: str = "z") -> None:
        """Write an AMASS-compatible .npz (module docstring), atomically.

        layout: one of LAYOUTS; up: "z", or "y" for programs that take no other.
        """
        width, joints = LAYOUTS[layout]
        turned = self if up == "z" else _turned(self, Y_UP_TO_Z_UP.T)
        poses = np.zeros((len(self), width, 3), np.float32)
        poses[:, joints] = turned.pose
        origin = {"version": __version__, **self.origin, **({} if up == "z" else {"up": up})}
        arrays: dict[str, Any] = {
            "poses": poses.reshape(len(self), -1),
            "trans": turned.transl.astype(np.float32),
            "betas": self.betas.astype(np.float32),
            "gender": np.array(self.gender),
            "mocap_framerate": np.array(float(self.fps)),
            "mclip": np.array(json.dumps(origin, ensure_ascii=False, sort_keys=True)),
        }
        if layout == "smplx":
            arrays |= _smplx_names(poses, self.fps)
        write_bytes(Path(path), _npz(arrays))


def _npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """What np.savez writes, at once: it goes back and forth in the file, which takes most of its time."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asanyarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getbuffer())
    return file.getvalue()


def _turned(motion: Motion, turn: NDArray[np.float64]) -> Motion:
    """The motion in a world turned by `turn` (3, 3). The pelvis turns about the origin, not the rest pose's place."""
    root = turn @ axis_angle_to_matrix(motion.pose[:, 0].astype(np.float64))
    pose = motion.pose.copy()
    pose[:, 0] = matrix_to_axis_angle(root)
    transl = (motion.transl + REST_JOINTS[0]) @ turn.T - REST_JOINTS[0]
    return replace(motion, pose=pose, transl=transl.astype(np.float32))


def _smplx_names(poses: NDArray[np.float32], fps: float) -> dict[str, Any]:
    """What AMASS's SMPL-X files hold besides, from poses (T, 55, 3)."""
    parts = ("root_orient", "pose_body", "pose_jaw", "pose_eye", "pose_hand")
    return {
        "surface_model_type": np.array("smplx"),
        "mocap_frame_rate": np.array(float(fps)),
        "mocap_time_length": np.array(len(poses) / fps),
        "num_betas": np.array(10),
        **dict(zip(parts, np.split(poses.reshape(len(poses), -1), (3, 66, 69, 75), axis=1), strict=True)),
    }


def load_npz(path: Path) -> Motion:
    """Read a motion from any AMASS variant (module docstring). Raises MotionError, never runs what the file holds."""
    arrays = _read_arrays(path)
    fps = _scalar(arrays, path, "mocap_framerate", "mocap_frame_rate", "fps")
    poses = _poses(arrays, path)
    transl = arrays.get("trans", arrays.get("transl"))
    if transl is None:
        raise MotionError(f"{path}: has no 'trans'", "an AMASS .npz holds poses, trans and mocap_framerate")
    if transl.shape != (len(poses), 3):
        raise MotionError(f"{path}: trans has shape {transl.shape}, poses has {len(poses)} frames")
    betas = np.zeros(10, np.float32)
    if "betas" in arrays:
        given = _float32(arrays["betas"], path, "betas").reshape(-1)[:10]
        betas[: len(given)] = given
    pose, transl = _float32(poses, path, "poses"), _float32(transl, path, "trans")
    origin = _origin(arrays)
    up = origin.pop("up", "z")
    # Of this file, not of the one it was made of.
    origin.pop("left_out", None)
    if left_out := _left_out(arrays):
        origin["left_out"] = left_out
    try:
        motion = Motion(
            pose=pose,
            transl=transl,
            fps=fps,
            betas=betas,
            gender=_gender(arrays),
            origin=origin,
        )
        return _turned(motion, Y_UP_TO_Z_UP) if up == "y" else motion
    except MotionError as error:
        raise MotionError(f"{path}: {error.message}", error.hint) from None


class Summary(NamedTuple):
    """What an .npz says of itself; origin is empty where it is not ours."""

    frames: int
    fps: float
    origin: dict[str, Any]


def summarize(path: Path) -> Summary | None:
    """A summary of an AMASS .npz without reading its poses, None for any other file."""
    try:
        wanted = {name: LIMITS[name] for name in ("mclip", "mocap_framerate", "trans")}
        arrays = {name: _readable(array) for name, array in read_npz(path, wanted).items()}
        return Summary(len(arrays["trans"]), float(arrays["mocap_framerate"]), _origin(arrays))
    except Exception:
        # As in `_read_arrays`: a dozen kinds.
        return None


# Names of an AMASS tree's .npz files that hold a body's shape, and no motion.
SHAPE_FILES = ("shape.npz", "_stagei.npz")


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        return {name: _readable(array) for name, array in read_npz(path, LIMITS).items()}
    except FileNotFoundError:
        raise MotionError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise MotionError(f"{path}: is a folder, not a file") from None
    except Exception as error:
        # numpy and zipfile raise a dozen kinds for damaged archives.
        raise MotionError(f"{path}: not a readable .npz ({error})", "is the download complete?") from None


def _readable(array: NDArray[Any]) -> NDArray[Any]:
    """The array, if its texts are some: numpy makes Python strings of codes that are no characters."""
    if array.dtype.kind == "U":
        codes = np.frombuffer(array.tobytes(), np.dtype("u4").newbyteorder(array.dtype.byteorder))
        if (codes > sys.maxunicode).any():
            raise ValueError("a text holds what is no character")
    return array


def _scalar(arrays: dict[str, NDArray[Any]], path: Path, *names: str) -> float:
    for name in names:
        if name in arrays:
            try:
                if arrays[name].dtype.kind == "c":
                    raise TypeError
                return float(arrays[name].flat[0])
            except (ValueError, TypeError, IndexError):
                raise MotionError(f"{path}: {name} is not a number") from None
    raise MotionError(f"{path}: has no frame rate ({' or '.join(names[:2])})", "add mocap_framerate to the file")


def _float32(array: NDArray[Any], path: Path, name: str) -> NDArray[np.float32]:
    if array.dtype.kind not in "fiu":
        raise MotionError(f"{path}: {name} holds {array.dtype}, not numbers")
    # What float32 cannot hold becomes infinite, and is refused as that.
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _poses(arrays: dict[str, NDArray[Any]], path: Path) -> NDArray[Any]:
    """(T, 24, 3) from the layouts of SMPL, SMPL+H and SMPL-X."""
    if "poses" in arrays:
        poses = arrays["poses"]
    elif "root_orient" in arrays and "pose_body" in arrays:
        try:
            poses = np.concatenate([arrays["root_orient"], arrays["pose_body"]], axis=1)
        except ValueError:
            raise MotionError(f"{path}: root_orient and pose_body do not fit together") from None
    else:
        raise MotionError(f"{path}: has no 'poses'", "an AMASS .npz holds poses, trans and mocap_framerate")
    if poses.ndim == 3 and poses.shape[2] == 3:
        poses = poses.reshape(len(poses), 3 * poses.shape[1])  # there may be no frames
    if poses.ndim != 2 or poses.shape[1] not in (_WITHOUT_HANDS, *(3 * joints for joints, _ in LAYOUTS.values())):
        raise MotionError(
            f"{path}: poses has shape {poses.shape}", "expected (T, 72) SMPL, (T, 156) SMPL+H or (T, 165) SMPL-X"
        )
    if len(poses) == 0:
        raise MotionError(f"{path}: has no frames")
    if len(poses) > MAX_FRAMES:
        raise MotionError(f"{path}: has {len(poses)} frames, more than {MAX_FRAMES}")
    joints = poses.reshape(len(poses), -1, 3)
    for count, chosen in LAYOUTS.values():
        if joints.shape[1] == count:
            return joints[:, chosen]
    full = np.zeros((len(poses), 24, 3), poses.dtype)
    full[:, :22] = joints
    return full


def _left_out(arrays: dict[str, NDArray[Any]]) -> str:
    """What of a sound file is in no Motion and moves or shapes something, for people; empty if nothing is lost."""
    parts = []
    if "poses" in arrays:
        joints = arrays["poses"].reshape(len(arrays["poses"]), -1, 3)
        chosen = next((taken for count, taken in LAYOUTS.values() if count == joints.shape[1]), range(joints.shape[1]))
        moved = np.setdiff1d(np.flatnonzero(joints.any(axis=(0, 2))), chosen)
        # SMPL-X has jaw and eyes before the hands.
        hands = SMPLX_TO_SMPL[22] if chosen is SMPLX_TO_SMPL else 0
        parts += ["fingers"] if (moved >= hands).any() else []
        parts += ["face"] if (moved < hands).any() else []
    if "betas" in arrays and arrays["betas"].reshape(-1)[10:].any():
        parts.append("betas beyond 10")
    return ", ".join(parts)


def _gender(arrays: dict[str, NDArray[Any]]) -> str:
    """AMASS holds gender as str or bytes, of any spelling; anything else is neutral."""
    if "gender" not in arrays or arrays["gender"].size != 1:
        return "neutral"
    value = arrays["gender"].flat[0]
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text.lower() if text.lower() in GENDERS else "neutral"


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _no_number(digits)


def _origin(arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    if "mclip" not in arrays:
        return {}
    try:
        value = json.loads(str(arrays["mclip"].flat[0]), parse_constant=_no_number, parse_float=_finite)
    except (ValueError, IndexError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
