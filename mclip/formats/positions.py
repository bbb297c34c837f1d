"""Joint positions, for programs that know no rotations: .csv and .npy. They are written only.

.csv  a header, then a line for each frame: time_s, and for each of SMPL's 24 joints three columns such as
      left_knee_x_m, left_knee_y_m, left_knee_z_up_m. The names say the unit and which axis is up.
.npy  float32 (T, 22, 3), SMPL's joints without the hands, as the `joints` and `new_joints` of HumanML3D (Guo et
      al., CVPR 2022) and the tools for them: Y up, metres, and, as the file cannot say it, 20 frames per second.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mclip.files import atomic_path, write_bytes
from mclip.formats.style import Chosen
from mclip.geometry import Y_UP_TO_Z_UP, axis_angle_to_matrix
from mclip.motion import Motion
from mclip.skeleton.smpl import JOINT_NAMES, forward_kinematics

SUFFIXES = (".csv", ".npy")
# Frames per second that HumanML3D's tools take for granted.
HUMANML3D_FPS = 20.0
_HUMANML3D_JOINTS = 22
_UNITS = {1.0: "m", 100.0: "cm", 1000.0: "mm"}


def joint_positions(motion: Motion, *, up: str = "z") -> NDArray[np.float32]:
    """Positions (T, 24, 3) of SMPL's joints, metres, on the free body's proportions; `up` is "z" or "y"."""
    _, joints = forward_kinematics(axis_angle_to_matrix(motion.pose.astype(np.float64)), motion.transl)
    return joints if up == "z" else joints @ Y_UP_TO_Z_UP.astype(np.float32)


def write_csv(path: Path, motion: Motion, style: Chosen) -> None:
    """Write the positions of all joints as text (module docstring), atomically."""
    unit = _UNITS.get(style.scale, f"m/{style.scale:g}")
    axes = [f"{axis}_up" if axis == style.up else axis for axis in "xyz"]
    header = ["time_s", *(f"{joint}_{axis}_{unit}" for joint in JOINT_NAMES for axis in axes)]
    times = np.arange(len(motion)) / motion.fps
    places = (joint_positions(motion, up=style.up) * style.scale).reshape(len(motion), -1)
    with atomic_path(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as file:
        file.write(",".join(header) + "\n")
        np.savetxt(file, np.column_stack([times, places]), fmt="%.6f", delimiter=",")


def write_npy(path: Path, motion: Motion, style: Chosen) -> None:
    """Write the positions of HumanML3D's 22 joints as an array (module docstring), atomically."""
    motion = motion.resample(HUMANML3D_FPS)  # the file cannot say its rate
    content = io.BytesIO()
    np.save(content, joint_positions(motion, up=style.up)[:, :_HUMANML3D_JOINTS] * np.float32(style.scale))
    write_bytes(path, content.getvalue())
