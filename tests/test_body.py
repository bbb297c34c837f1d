from __future__ import annotations

import os
import pickle
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mclip.body.model import Body, load_body
from mclip.body.skinning import pose_vertices, skin, skin_frames_numpy
from mclip.errors import AssetError
from mclip.motion import Motion
from mclip.skeleton.smpl import JOINT, REST_JOINTS


def random_motion(frames: int, seed: int = 0) -> Motion:
    rng = np.random.default_rng(seed)
    return Motion(
        pose=rng.normal(0, 0.4, (frames, 24, 3)).astype(np.float32),
        transl=rng.normal(0, 1, (frames, 3)).astype(np.float32),
        fps=30.0,
        betas=rng.normal(0, 1, 10).astype(np.float32),
    )


def with_posedirs(body: Body) -> Body:
    rng = np.random.default_rng(1)
    return replace(body, posedirs=rng.normal(0, 0.002, (len(body.v_template), 3, 207)).astype(np.float32))


def smpl_arrays(body: Body) -> dict[str, NDArray[Any]]:
    """A licensed SMPL file has these arrays; its numbers are not ours to store."""
    full = with_posedirs(body)
    assert full.posedirs is not None
    parents = np.array(body.parents)
    return {
        "v_template": body.v_template.astype(np.float64),
        "f": body.faces.astype(np.uint32),
        "weights": body.weights.astype(np.float64),
        "shapedirs": body.shapedirs.astype(np.float64),
        "posedirs": full.posedirs.astype(np.float64),
        "J_regressor": body.J_regressor,
        "kintree_table": np.stack([parents, np.arange(24)]).astype(np.uint32),
    }


def test_the_free_body_has_the_counts_of_smpl_and_is_watertight() -> None:
    body = load_body()
    assert body.v_template.shape == (6890, 3)
    assert body.faces.shape == (13776, 3)
    edges = np.sort(body.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    corners = body.v_template[body.faces].astype(np.float64)
    volume = np.einsum("fa,fa->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    assert 0.05 < volume < 0.1  # positive: faces turn outwards; 50 to 100 litres is a person


def test_the_free_body_is_small_and_has_a_licence_note() -> None:
    from importlib import resources

    folder = resources.files("mclip.body")
    with resources.as_file(folder / "free_body.npz") as path:
        assert path.stat().st_size <= 1_000_000
    assert "CC0" in (folder / "free_body.LICENSE.txt").read_text()


def test_rest_joints_are_the_literal_of_the_skeleton() -> None:
    np.testing.assert_allclose(load_body().rest_joints(np.zeros(10, np.float32)), REST_JOINTS, atol=6e-5)


def test_the_body_stands_upright_facing_forward_with_its_arms_out() -> None:
    joints = load_body().rest_joints(np.zeros(10, np.float32))
    assert joints[JOINT["head"], 1] > joints[JOINT["pelvis"], 1] > joints[JOINT["left_foot"], 1]
    assert joints[JOINT["left_wrist"], 0] > 0.5 > -0.5 > joints[JOINT["right_wrist"], 0]
    assert joints[JOINT["left_foot"], 2] > joints[JOINT["left_ankle"], 2] + 0.08


def test_the_first_beta_changes_the_height_by_centimetres() -> None:
    body = load_body()
    heights = [np.ptp(body.rest_vertices(np.eye(1, 10, dtype=np.float32)[0] * beta)[:, 1]) for beta in (-1, 0, 1)]
    assert 0.04 < abs(heights[2] - heights[1]) < 0.09
    assert abs(heights[0] - heights[1]) == pytest.approx(abs(heights[2] - heights[1]), rel=0.05)


def test_the_finger_tips_toes_and_nose_are_where_smplx_looks_for_them() -> None:
    vertex_ids = pytest.importorskip("smplx.vertex_ids").vertex_ids["smplh"]
    v = load_body().v_template
    assert v[vertex_ids["nose"], 2] == pytest.approx(v[v[:, 1] > 0.45][:, 2].max(), abs=0.02)
    assert v[vertex_ids["lmiddle"], 0] == pytest.approx(v[:, 0].max(), abs=0.02)
    assert v[vertex_ids["rmiddle"], 0] == pytest.approx(v[:, 0].min(), abs=0.02)
    assert v[vertex_ids["LBigToe"], 2] == pytest.approx(v[v[:, 1] < -1.1][:, 2].max(), abs=0.03)
    assert v[vertex_ids["RHeel"], 2] == pytest.approx(v[v[:, 1] < -1.1][:, 2].min(), abs=0.03)
    assert v[vertex_ids["leye"], 0] > 0 > v[vertex_ids["reye"], 0]


@pytest.mark.parametrize("corrected", [False, True], ids=["free", "posedirs"])
def test_skinning_agrees_with_smplx(corrected: bool) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("smplx")
    from mclip.nn.smpl import smplx_body

    body = with_posedirs(load_body()) if corrected else load_body()
    motion = random_motion(5)
    with torch.no_grad():
        expected = smplx_body(body)(
            betas=torch.from_numpy(motion.betas)[None].expand(len(motion), -1),
            global_orient=torch.from_numpy(motion.pose[:, 0]),
            body_pose=torch.from_numpy(motion.pose[:, 1:].reshape(len(motion), 69)),
            transl=torch.from_numpy(motion.transl),
        )
    vertices = skin(body, motion.pose, motion.transl, motion.betas)
    np.testing.assert_allclose(vertices, expected.vertices.numpy(), atol=1e-4)
    np.testing.assert_allclose(
        body.rest_joints(motion.betas)[0] + motion.transl, expected.joints[:, 0].numpy(), atol=1e-4
    )


def test_the_free_body_keeps_its_shape_whatever_the_betas_of_a_motion_and_others_do_not() -> None:
    motion = random_motion(2)
    plain = replace(motion, betas=np.zeros(10, np.float32))
    body = load_body()
    np.testing.assert_array_equal(pose_vertices(body, motion), pose_vertices(body, plain))
    licensed = replace(body, free=False)
    assert np.abs(pose_vertices(licensed, motion) - pose_vertices(licensed, plain)).max() > 0.01


@pytest.mark.parametrize("corrected", [False, True], ids=["free", "posedirs"])
def test_skinning_is_the_same_in_numpy_and_in_numba(corrected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    body = with_posedirs(load_body()) if corrected else load_body()
    motion = random_motion(70)  # more than one chunk
    compiled = pose_vertices(body, motion)
    monkeypatch.setattr("mclip.body.skinning._kernel", lambda: skin_frames_numpy)
    np.testing.assert_allclose(pose_vertices(body, motion), compiled, atol=2e-5)


def test_a_standing_pose_in_the_world_has_its_head_up_along_z() -> None:
    pose = np.zeros((1, 24, 3), np.float32)
    pose[0, 0, 0] = np.pi / 2  # Y up to Z up
    vertices = skin(load_body(), pose, np.array([[0, 0, 2]], np.float32), np.zeros(10, np.float32))[0]
    assert np.ptp(vertices[:, 2]) == pytest.approx(np.ptp(load_body().v_template[:, 1]), abs=1e-4)
    assert vertices[:, 1].min() < vertices[:, 1].mean()  # +Z forward became -Y


def test_a_licensed_npz_loads(tmp_path: Path) -> None:
    np.savez(tmp_path / "SMPL_NEUTRAL.npz", **smpl_arrays(load_body()))  # type: ignore[arg-type]
    loaded = load_body(tmp_path / "SMPL_NEUTRAL.npz")
    np.testing.assert_allclose(loaded.v_template, load_body().v_template)
    assert loaded.posedirs is not None


def fake_chumpy(monkeypatch: pytest.MonkeyPatch) -> tuple[type, type]:
    """Classes that pickle under chumpy's names; chumpy itself no longer installs."""
    parent, ch, reordering = (types.ModuleType(name) for name in ("chumpy", "chumpy.ch", "chumpy.reordering"))

    class Ch:
        def __init__(self, **state: Any) -> None:
            self.__dict__.update(state)

    class Select(Ch):
        pass

    for module, kind in ((ch, Ch), (reordering, Select)):
        kind.__module__, kind.__qualname__ = module.__name__, kind.__name__
        setattr(module, kind.__name__, kind)
    for module in (parent, ch, reordering):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return Ch, Select


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("form", ["csc", "csr"])
def test_a_licensed_pickle_loads_without_chumpy_or_scipy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int, form: str
) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    arrays = smpl_arrays(load_body())
    if protocol == 0:
        del arrays["posedirs"]  # 34 MB as text
    Ch, Select = fake_chumpy(monkeypatch)
    taken = np.arange(arrays["shapedirs"].size)
    content: dict[str, Any] = {
        **arrays,
        "v_template": np.asfortranarray(arrays["v_template"]),
        "weights": Ch(x=arrays["weights"].astype(">f8")),
        "shapedirs": Select(a=Ch(x=arrays["shapedirs"]), idxs=taken, preferred_shape=arrays["shapedirs"].shape),
        "J_regressor": getattr(sparse, f"{form}_matrix")(arrays["J_regressor"]),
        "bs_type": "lrotmin",
    }
    path = tmp_path / "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    monkeypatch.undo()
    loaded = load_body(path)
    for name in ("v_template", "weights", "shapedirs", "J_regressor"):
        np.testing.assert_allclose(getattr(loaded, name), getattr(load_body(), name), err_msg=name)


class Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    path.write_bytes(pickle.dumps({"v_template": Attack()}, protocol=protocol))
    with pytest.raises(AssetError, match=r"system.*not loaded"):
        load_body(path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x02}", b"not a pickle", pickle.dumps([1]), pickle.dumps({"v_template": 3}), pickle.dumps({})],
    ids=["empty", "truncated", "text", "list", "number", "no arrays"],
)
def test_a_damaged_pickle_says_so_and_where_to_get_smpl(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "SMPL_MALE.pkl"
    path.write_bytes(content)
    with pytest.raises(AssetError, match="SMPL_MALE") as caught:
        load_body(path)
    assert "smpl.is.tue.mpg.de" in caught.value.hint


def test_a_missing_body_says_where_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="no such body file") as caught:
        load_body(tmp_path / "SMPL_FEMALE.pkl")
    assert "smpl.is.tue.mpg.de" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": np.zeros((6890, 24))}, "sum to one"),
        ({"v_template": np.full((6890, 3), np.nan)}, "NaN"),
        ({"shapedirs": np.zeros((6890, 3, 4))}, "shapedirs"),
        ({"f": np.full((9, 3), 6890)}, "faces"),
        ({"kintree_table": np.zeros((2, 52), np.int64)}, r"SMPL\+H"),
        ({"kintree_table": np.zeros((2, 24), np.int64)}, "order"),
        ({"v_template": np.array([{}], dtype=object)}, "readable"),
    ],
)
def test_a_body_that_is_no_smpl_is_refused(tmp_path: Path, change: dict[str, NDArray[Any]], message: str) -> None:
    arrays = smpl_arrays(load_body()) | change
    del arrays["posedirs"]
    np.savez(tmp_path / "body.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(AssetError, match=message):
        load_body(tmp_path / "body.npz")
