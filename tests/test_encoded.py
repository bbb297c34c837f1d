"""Motions of any length as windows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mclip.pack import Pack
from mclip.runtime.encoded import starts
from mclip.runtime.engine import Engine
from mclip.runtime.representation import motion_to_features
from tests.fakes import swinging


@given(st.integers(1, 500), st.integers(1, 80), st.integers(1, 80), st.booleans())
def test_windows_cover_every_frame_and_none_is_short_without_need(
    frames: int, length: int, hop: int, even: bool
) -> None:
    found = starts(frames, length, hop, even=even).tolist()
    covered = np.zeros(frames, bool)
    for start in found:
        assert start + length <= frames or found == [0]
        covered[start : start + length] = True
    assert covered.all() or hop > length
    assert covered[0] and covered[-1]
    assert found == sorted(set(found))
    gaps = [later - earlier for earlier, later in pairwise(found)]
    assert all(gap <= hop for gap in gaps)
    assert not gaps or (max(gaps) - min(gaps) <= 1 if even else set(gaps[:-1]) <= {hop})


def test_a_window_is_encoded_as_the_piece_cut_out_would_be(tiny_pack: Pack) -> None:
    engine = Engine(tiny_pack, "cpu")
    motions = [
        swinging("head", 0, 1, frames=47),
        swinging("spine1", 0, 2, frames=13),
        swinging("head", 1, 3, frames=20),
    ]
    encoded = engine.encode_motions(motions, hop=10)
    assert [item.start.tolist() for item in encoded] == [[0, 10, 20, 27], [0], [0]]
    assert [item.stop.tolist() for item in encoded] == [[20, 30, 40, 47], [13], [20]]
    for motion, item in zip(motions, encoded, strict=True):
        for start, stop, latent in zip(item.start, item.stop, item.latents, strict=True):
            piece = motion_to_features(motion.slice(int(start), int(stop)))[None]
            alone = engine.encode_motion(piece, np.ones(piece.shape[:2], np.bool_))[0]
            np.testing.assert_allclose(latent, alone, atol=1e-5)


def test_motions_are_brought_to_the_packs_frame_rate(tiny_pack: Pack) -> None:
    engine = Engine(tiny_pack, "cpu")
    motion = swinging("head", 0, 1, frames=80)
    (fast,) = engine.encode_motions([motion.resample(60)])
    (slow,) = engine.encode_motions([motion])
    assert fast.stop.tolist() == slow.stop.tolist() == [20, 30, 40, 50, 60, 70, 80]
    np.testing.assert_allclose(fast.latents, slow.latents, atol=1e-3)
    assert engine.encode_motions([]) == []
