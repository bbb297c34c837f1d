"""mclip export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mclip.cli.options import ClipWeights, Unverified

if TYPE_CHECKING:
    from mclip.nn.teachers import Teacher, Weights


def export(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR", help="Run directory of mclip train, or an original MotionCLIP checkpoint_*.pth.tar."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Directory of the pack.")],
    store: Annotated[
        Path | None, typer.Option(help="Store whose training motions become the prior. [default: no prior]")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Weights of the motion graphs: fp32, fp16, int8, or auto, int8 if it is clearly faster here, else "
            "fp16. [default: fp16, of original checkpoints fp32]"
        ),
    ] = None,
    text_precision: Annotated[
        str, typer.Option(help="Weights of the text and image towers: fp32, fp16 or int8.")
    ] = "int8",
    without_text: Annotated[
        bool, typer.Option("--without-text", help="Motion graphs alone, for want of the text space's weights.")
    ] = False,
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

    An original checkpoint needs its opt.yaml beside it. With --store it is measured what the weights' precision costs
    on held-out motion; mclip doctor PACK says it again.

    Example: mclip export runs/mini -o packs/mini --store motions.h5
    """
    from dataclasses import asdict

    from mclip.cli import need
    from mclip.console import emit

    with need("train"):
        from mclip.data.store import read_store
        from mclip.export.official import is_official, known_of, load_official
        from mclip.export.pack import export_pack, read_texts
        from mclip.nn.teachers import Weights
        from mclip.train.checkpoint import load_model

        official = is_official(run)
        model, recipe = load_official(run) if official else load_model(run)
        pack = export_pack(
            model,
            recipe,
            _teacher(recipe.text_space, Weights(clip_weights, unverified), without_text),
            out,
            texts=read_texts(recipe, card, license_),
            store=read_store(store) if store else None,
            # An original checkpoint is asked for its own numbers.
            precision=precision or ("fp32" if official else "fp16"),
            text_precision=text_precision,
            image_tower=image_tower,
            record=known_of(recipe) if official else None,
            name=name,
            force=force,
        )
    manifest = pack.manifest
    size = sum(spec.size for spec in manifest.files.values())
    lines = [
        f"{pack.path}: {size / 1e6:.1f} MB, "
        + ", ".join(f"{graph} within {spec.parity.stored:.1g} of torch" for graph, spec in manifest.graphs.items())
    ]
    if manifest.joints:
        lines.append(f"{manifest.precision}: {manifest.joints.text}")
    emit(
        {
            "pack": str(pack.path),
            "name": manifest.name,
            "bytes": size,
            "sha256": pack.digest,
            "precision": manifest.precision,
            "joints": asdict(manifest.joints) if manifest.joints else None,
            "parity": {
                graph: {"exported": spec.parity.exported, "stored": spec.parity.stored}
                for graph, spec in manifest.graphs.items()
            },
        },
        as_json=as_json,
        text="\n".join(lines),
    )


def _teacher(text_space: str, weights: Weights, without_text: bool) -> Teacher | None:
    from mclip.errors import AssetError
    from mclip.nn.teachers import load_teacher

    if without_text:
        return None
    try:
        return load_teacher(text_space, weights)
    except AssetError as error:
        raise AssetError(error.message, f"{error.hint}; --without-text exports the motion graphs alone") from None
