"""A .npz of ours as aitviewer, an independent viewer of AMASS, opens and draws it.

aitviewer is no dependency of mclip, as it brings Qt, OpenCV and USD: pip install aitviewer, then run this test again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mclip.body.model import load_body
from mclip.body.skinning import pose_vertices
from mclip.geometry import axis_angle_to_matrix
from mclip.motion import load_npz
from mclip.skeleton.smpl import REST_JOINTS, forward_kinematics

GOLDEN = Path(__file__).parent / "golden"

# aitviewer wants a display or EGL and holds its OpenGL context until the process ends, so it has a process of its own.
OPEN = """
import contextlib, functools, io, json, sys
import moderngl, numpy as np, smplx
from smplx.utils import Struct
from aitviewer.headless import HeadlessRenderer
from aitviewer.models.smpl import SMPLLayer
from aitviewer.renderables.smpl import SMPLSequence
from mclip.body.model import load_body

# SMPL+H, as from_amass asks for it, of our free body: 15 joints of each hand, which move nothing but the first.
body = load_body()
V = len(body.v_template)
row_of = [*range(22), *[22] * 15, *[23] * 15]
parents = np.array([*body.parents[:22], 20, 22, 23, 20, 25, 26, 20, 28, 29, 20, 31, 32, 20, 34, 35,
                    21, 37, 38, 21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50])
weights = np.zeros((V, 52), np.float32)
weights[:, [*range(22), 22, 37]] = body.weights
data = Struct(
    v_template=body.v_template, f=body.faces, weights=weights, shapedirs=body.shapedirs,
    posedirs=np.zeros((V, 3, 9 * 51), np.float32), J_regressor=body.J_regressor[row_of],
    kintree_table=np.stack([parents, np.arange(52)]),
    hands_componentsl=np.eye(45, dtype=np.float32), hands_componentsr=np.eye(45, dtype=np.float32),
    hands_meanl=np.zeros(45, np.float32), hands_meanr=np.zeros(45, np.float32),
)
class FreeBody(SMPLLayer):
    def __init__(self):
        with contextlib.redirect_stdout(io.StringIO()):
            smplx.create = lambda *_, gender, model_type, **options: smplx.SMPLH("", data_struct=data, **options)
            super().__init__("smplh", device="cpu")

# Its headless window asks for X11; EGL needs no display.
moderngl.create_standalone_context = functools.partial(moderngl.create_standalone_context, backend="egl")
sequence = SMPLSequence.from_amass(sys.argv[1], smpl_layer=FreeBody(), log=False, z_up=True)
np.savez(sys.argv[2], joints=sequence.joints, vertices=sequence.vertices, rotation=sequence.rotation)
sequence.mesh_seq.color = (0.1, 0.2, 0.9, 1.0)
viewer = HeadlessRenderer(size=(480, 480))
viewer.scene.add(sequence)
viewer.scene.current_frame_id = int(sys.argv[4])
viewer.lock_to_node(sequence, (2.0, 0.5, 2.0))
viewer.save_frame(sys.argv[3])
print(json.dumps({"frames": len(sequence)}))
"""


def test_aitviewer_opens_and_draws_a_saved_motion(tmp_path: Path) -> None:
    """Its from_amass gives our vertices (0.01 mm) and joints (0.1 mm), and its renderer shows an upright body."""
    pytest.importorskip("aitviewer", reason="aitviewer is not installed: pip install aitviewer")
    source = load_npz(GOLDEN / "kaykit" / "Unarmed_Melee_Attack_Kick.npz")
    source.save(tmp_path / "kick.npz")
    (tmp_path / "open.py").write_text(OPEN)
    command = [sys.executable, "open.py", "kick.npz", "seen.npz", "seen.png", "20"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {"frames": len(source)}

    _, joints = forward_kinematics(axis_angle_to_matrix(source.pose), source.transl, REST_JOINTS)
    with np.load(tmp_path / "seen.npz", allow_pickle=False) as seen:
        np.testing.assert_allclose(seen["vertices"], pose_vertices(load_body(), source), atol=1e-5)
        np.testing.assert_allclose(seen["joints"][:, :22], joints[:, :22], atol=1e-4)
        # Our z, up, is its y.
        np.testing.assert_allclose(seen["rotation"] @ [0, 0, 1], [0, 1, 0], atol=1e-6)

    with Image.open(tmp_path / "seen.png") as picture:
        red, _, blue = np.moveaxis(np.asarray(picture.convert("RGB"), np.int32), -1, 0)
    rows, columns = np.nonzero(blue - red > 40)
    assert 0.03 < len(rows) / red.size < 0.3
    assert np.ptp(rows) > 1.2 * np.ptp(columns)
