"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ClipWeights = Annotated[
    Path | None,
    typer.Option("--clip-weights", help="CLIP's ViT-B-32.pt. [default: MCLIP_CLIP_WEIGHTS, else downloaded]"),
]
Unverified = Annotated[
    bool, typer.Option("--unverified", help="Take other weights of CLIP's shape than the published ones.")
]
Dask = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Dask cluster that reads the files, such as tcp://host:8786."),
]
RequireSha256 = Annotated[
    str | None, typer.Option(metavar="HEX", help="Use the pack only if it is this one: see mclip doctor PACK.")
]
