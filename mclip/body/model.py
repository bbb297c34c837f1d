"""A body: template mesh, shape directions, joints and skinning weights, as SMPL has them.

The free body (free_body.npz, made by recipes/body from CC0 MakeHuman assets) holds

    v_template       (V, 3) float32           metres, Y up, facing +Z, left = +X
    f                (F, 3) uint16            triangles, counter-clockwise from outside
    weights          (V, 24) float32          skinning weights, rows sum to one, at most four are not zero
    shapedirs        (V, 3, 10) float32       metres per unit of each beta
    J_regressor_idx  (K, 2) uint16            joint and vertex of each entry of the joint regressor
    J_regressor_val  (K,) float32             its value
    kintree_table    (2, 24) int64            parents and joints, as in SMPL

Its betas are its own: they do not mean what SMPL's betas mean. Everything but the regressor has SMPL's names, so that
smplx can take it as a data structure (mclip.nn.smpl).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mclip.body.smpl_file import read_npz, read_pkl
from mclip.errors import AssetError
from mclip.skeleton.smpl import PARENTS

BETAS = 10
JOINTS = len(PARENTS)
# SMPL has 6,890; no body worth skinning here has more than a scan.
MAX_VERTICES = 200_000
# A closed surface has two for each vertex.
MAX_FACES = 3 * MAX_VERTICES
WHERE_TO_GET_SMPL = "download SMPL from https://smpl.is.tue.mpg.de (free for research), or leave --body out"


@dataclass(frozen=True, eq=False, kw_only=True)
class Body:
    """A body in SMPL's form: 24 joints, rest pose Y up and facing +Z, metres.

    v_template   (V, 3) float32, mean shape in the rest pose
    faces        (F, 3) int32, triangles, counter-clockwise from outside
    weights      (V, 24) float32, skinning weights, rows sum to one
    shapedirs    (V, 3, 10) float32, metres per unit of each beta
    J_regressor  (24, V) float32, rest joints from rest vertices
    posedirs     (V, 3, 207) float32, metres per entry of (R - I) of joints 1 to 23, or None
    free         whether it is the free body, whose betas are not SMPL's
    """

    v_template: NDArray[np.float32]
    faces: NDArray[np.int32]
    weights: NDArray[np.float32]
    shapedirs: NDArray[np.float32]
    J_regressor: NDArray[np.float32]
    posedirs: NDArray[np.float32] | None = None
    free: bool = False

    @property
    def parents(self) -> tuple[int, ...]:
        """The parent of each joint, -1 for the root: always SMPL's."""
        return PARENTS

    def rest_vertices(self, betas: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vertices (V, 3) of the shape `betas` (up to 10) in the rest pose, without pose correction."""
        used = betas[:BETAS]
        return self.v_template + (self.shapedirs[:, :, : len(used)] @ used.astype(np.float32))

    def rest_joints(self, betas: NDArray[np.float32]) -> NDArray[np.float32]:
        """Joints (24, 3) of the shape `betas` (up to 10) in the rest pose."""
        template, directions = self._joints
        used = betas[:BETAS].astype(np.float64)
        return (template + directions[:, :, : len(used)] @ used).astype(np.float32)

    @cached_property
    def _joints(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rest joints of the template (24, 3), and their change per beta (24, 3, 10).

        In double precision: the regressor has entries of both signs that cancel.
        """
        regressor = self.J_regressor.astype(np.float64)
        return regressor @ self.v_template, np.einsum("jv,vcb->jcb", regressor, self.shapedirs, optimize=True)

    @cached_property
    def influences(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The joints that move each vertex (V, K) and their weights (V, K); K is as small as this body allows."""
        count = max(int((self.weights != 0).sum(axis=1).max()), 1)
        joints = np.argsort(-self.weights, axis=1, kind="stable")[:, :count].astype(np.int32)
        return joints, np.take_along_axis(self.weights, joints, axis=1)

    def strongest(self, count: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """The `count` joints that move each vertex most (V, count), strongest first, and their weights, which sum to 1.

        A joint without weight is joint 0.
        """
        joints, weights = self.influences
        missing = ((0, 0), (0, max(count - joints.shape[1], 0)))
        strong = np.pad(weights[:, :count].astype(np.float64), missing)
        named = np.where(strong > 0, np.pad(joints[:, :count], missing), 0).astype(np.int32)
        return named, strong / strong.sum(axis=1, keepdims=True)


def load_body(path: Path | None = None) -> Body:
    """The free body, or the SMPL body in `path` (.npz, or .pkl as SMPL is distributed).

    A .pkl is never unpickled in the usual way: mclip.body.smpl_file reads its arrays and runs nothing.
    Raises AssetError when the file is missing, damaged, or no SMPL body.
    """
    if path is None:
        return _free_body()
    if not path.is_file():
        raise AssetError(f"{path}: no such body file", WHERE_TO_GET_SMPL)
    if path.suffix.lower() not in (".npz", ".pkl"):
        raise AssetError(f"{path}: a body is an SMPL .npz or .pkl", WHERE_TO_GET_SMPL)
    try:
        return _from_arrays((read_npz if path.suffix.lower() == ".npz" else read_pkl)(path))
    except (AssetError, OSError) as error:
        raise AssetError(f"{path}: {error}", WHERE_TO_GET_SMPL) from None
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        # An array of the right name may be of any shape and type.
        raise AssetError(f"{path}: not an SMPL body ({error})", WHERE_TO_GET_SMPL) from None


@cache
def _free_body() -> Body:
    with resources.as_file(resources.files("mclip.body") / "free_body.npz") as path:
        return replace(_from_arrays(read_npz(path)), free=True)


def _from_arrays(arrays: dict[str, NDArray[Any]]) -> Body:
    """Check and convert the arrays of a body file. Raises AssetError without the path."""
    missing = [name for name in ("v_template", "f", "weights", "shapedirs", "kintree_table") if name not in arrays]
    if missing:
        raise AssetError(f"not an SMPL body: {', '.join(missing)} not found")
    V = len(arrays["v_template"])
    if not 3 <= V <= MAX_VERTICES:
        raise AssetError(f"not an SMPL body: {V} vertices")
    if "J_regressor_idx" in arrays and "J_regressor_val" in arrays:
        arrays["J_regressor"] = _dense(arrays["J_regressor_idx"], arrays["J_regressor_val"], V)
    if "J_regressor" not in arrays:
        raise AssetError("not an SMPL body: J_regressor not found")
    parents = arrays["kintree_table"][:1].astype(np.int64).reshape(-1)
    if len(parents) != JOINTS:
        kind = {52: " (SMPL+H)", 55: " (SMPL-X)"}.get(len(parents), "")
        raise AssetError(f"the body has {len(parents)} joints{kind}, mclip needs SMPL's {JOINTS}")
    if tuple(parents[1:]) != PARENTS[1:]:
        raise AssetError("the joints of the body are not in SMPL's order")
    body = Body(
        v_template=_floats(arrays, "v_template", (V, 3)),
        faces=_faces(arrays["f"], V),
        weights=_floats(arrays, "weights", (V, JOINTS)),
        shapedirs=_floats(arrays, "shapedirs", (V, 3, BETAS)),
        J_regressor=_floats(arrays, "J_regressor", (JOINTS, V)),
        posedirs=_floats(arrays, "posedirs", (V, 3, 9 * (JOINTS - 1))) if "posedirs" in arrays else None,
    )
    if not np.allclose(body.weights.sum(axis=1), 1.0, atol=1e-3):
        raise AssetError("the skinning weights of the body do not sum to one")
    for array in (body.v_template, body.faces, body.weights, body.shapedirs, body.J_regressor, body.posedirs):
        if array is not None:
            array.setflags(write=False)
    return body


def _faces(faces: NDArray[Any], V: int) -> NDArray[np.int32]:
    whole = faces.ndim == 2 and faces.shape[1] == 3 and 0 < len(faces) <= MAX_FACES and faces.dtype.kind in "iuf"
    if not whole or not (faces.min() >= 0 and faces.max() < V):
        raise AssetError("the faces of the body are not triangles between its vertices")
    return np.ascontiguousarray(faces, dtype=np.int32)


def _dense(index: NDArray[Any], value: NDArray[Any], V: int) -> NDArray[np.float32]:
    if index.dtype.kind not in "iu" or value.ndim != 1 or index.shape != (len(value), 2) or not index.size:
        raise AssetError("the joint regressor of the body is no list of joints and vertices")
    if index.min() < 0 or index[:, 0].max() >= JOINTS or index[:, 1].max() >= V:
        raise AssetError("the joint regressor of the body does not fit its vertices")
    regressor = np.zeros((JOINTS, V), np.float32)
    regressor[index[:, 0], index[:, 1]] = value
    return regressor


def _floats(arrays: dict[str, NDArray[Any]], name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The named array as float32 of `shape`; SMPL with 300 betas is cut to the first ten."""
    array = arrays[name]
    if name == "shapedirs" and array.ndim == 3:
        array = array[:, :, :BETAS]
    if array.shape != shape or array.dtype.kind not in "fiu":
        raise AssetError(f"{name} of the body has shape {array.shape}, not {shape}")
    result = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(result).all():
        raise AssetError(f"{name} of the body holds NaN or infinite values")
    return result
