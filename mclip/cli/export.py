"""mclip export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mclip.cli.options import ClipWeights, Unverified


def export(
    run: Annotated[
        Path, typer.Argument(metavar="RUN_DIR", help="Run directory of mclip train, or a checkpoint in it.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Directory of the pack.")],
    store: Annotated[
        Path | None, typer.Option(help="Store whose training motions become the prior. [default: no prior]")
    ] = None,
    precision: Annotated[str, typer.Option(help="Weights of the motion graphs: fp32, fp16 or int8.")] = "fp16",
    text_precision: Annotated[
        str, typer.Option(help="Weights of the text and image towers: fp32, fp16 or int8.")
    ] = "int8",
    image_tower: Annotated[
        bool, typer.Option("--image-tower", help="Let the pack make motions from pictures (clip-vit-b32 only).")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Name of the pack. [default: the recipe's]")] = None,
    card: Annotated[Path | None, typer.Option(help="CARD.md: data, figures, limits.")] = None,
    license_: Annotated[
        Path | None, typer.Option("--license", help="The pack's licence; its first line names it.")
    ] = None,
    clip_weights: ClipWeights = None,
    unverified: Unverified = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing pack.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Turn a trained model into a pack, which runs without torch.

    Example: mclip export runs/mini -o packs/mini --store motions.h5
    """
    from mclip.cli import need
    from mclip.console import emit

    with need("train"):
        from mclip.data.store import read_store
        from mclip.export.pack import export_pack, read_texts
        from mclip.nn.teachers import Weights, load_teacher
        from mclip.train.checkpoint import load_model

        model, recipe = load_model(run)
        pack = export_pack(
            model,
            recipe,
            load_teacher(recipe.text_space, Weights(clip_weights, unverified)),
            out,
            texts=read_texts(recipe, card, license_),
            store=read_store(store) if store else None,
            precision=precision,
            text_precision=text_precision,
            image_tower=image_tower,
            name=name,
            force=force,
        )
    manifest = pack.manifest
    size = sum(spec.size for spec in manifest.files.values())
    emit(
        {
            "pack": str(pack.path),
            "name": manifest.name,
            "bytes": size,
            "sha256": pack.digest,
            "parity": {
                graph: {"exported": spec.parity.exported, "stored": spec.parity.stored}
                for graph, spec in manifest.graphs.items()
            },
        },
        as_json=as_json,
        text=f"{pack.path}: {size / 1e6:.1f} MB, "
        + ", ".join(f"{graph} within {spec.parity.stored:.1g} of torch" for graph, spec in manifest.graphs.items()),
    )
