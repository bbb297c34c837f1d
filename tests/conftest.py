"""A small model, store and pack, made once for all tests, a browser and the command line; torch is loaded only by tests
that ask for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from mclip.data.store import MotionStore
    from mclip.nn.model import MotionClip
    from mclip.pack import Pack
    from tests.commands import Run

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("mclip", deadline=None)
hypothesis.settings.load_profile("mclip")


@pytest.fixture(scope="session")
def tiny_model() -> MotionClip:
    """An untrained model; the same every time."""
    import torch

    from mclip.nn.model import MotionClip
    from tests.fakes import tiny_recipe

    torch.manual_seed(0)
    return MotionClip(tiny_recipe().model).eval()


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> MotionStore:
    from mclip.data.store import read_store
    from tests.fakes import write_tiny_store

    return read_store(write_tiny_store(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="session")
def tiny_pack(tiny_model: MotionClip, tiny_store: MotionStore, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """A whole pack, with a prior, exported as any other. Not to be changed: copy it."""
    from mclip.export.pack import Texts, export_pack
    from tests.fakes import tiny_recipe, tiny_teacher

    return export_pack(
        tiny_model,
        tiny_recipe(),
        tiny_teacher(),
        tmp_path_factory.mktemp("packs") / "tiny",
        texts=Texts(card="# tiny\n", license="CC0-1.0\n\nDo what you like.\n"),
        store=tiny_store,
    )


@pytest.fixture
def pack_copy(tiny_pack: Pack, tmp_path: Path) -> Path:
    """A copy of the pack to spoil."""
    return Path(shutil.copytree(tiny_pack.path, tmp_path / "copy"))


# Not for the session: an open playwright keeps an event loop of its own running.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium; what asks for it is skipped where there is none."""
    from tests.browser import chromium

    with chromium() as made:
        yield made


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `mclip` with arguments."""
    from tests.commands import runner

    return runner(monkeypatch, capsys)
