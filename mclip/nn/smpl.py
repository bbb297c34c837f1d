"""The body as smplx has it: differentiable, and the second witness of our own skinning."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import smplx
from smplx.utils import Struct

from mclip.body.model import BETAS, Body


def smplx_body(body: Body) -> smplx.SMPL:
    """An smplx.SMPL of `body`; smplx itself reads only SMPL's pickles. smplx's licence is non-commercial."""
    V, J = body.weights.shape
    parents = np.array(body.parents, np.int64)
    posedirs = np.zeros((V, 3, 9 * (J - 1)), np.float32) if body.posedirs is None else body.posedirs
    data = Struct(
        v_template=body.v_template,
        f=body.faces,
        weights=body.weights,
        shapedirs=body.shapedirs,
        posedirs=posedirs,
        J_regressor=body.J_regressor,
        kintree_table=np.stack([parents, np.arange(J)]),
    )
    # smplx prints a warning about the number of shape directions; stdout is for results.
    with contextlib.redirect_stdout(io.StringIO()):
        return smplx.SMPL(model_path="", data_struct=data, num_betas=BETAS)
