"""Which recordings are for training, validation and testing."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mclip.data.splits import assign_splits, recordings
from mclip.errors import DataError


def _assign(paths: list[str], classes: dict[int, str] | None = None, **changes: object) -> list[str]:
    options: dict[str, object] = {"given": {}, "official": {}, "val": 0.05, "test": 0.1, "seed": 0} | changes
    hashes = [path.partition("#")[0] for path in paths]
    return assign_splits(paths, hashes, classes or {}, **options)  # type: ignore[arg-type]


def test_each_class_of_each_source_is_divided_in_the_same_parts() -> None:
    paths = [f"{source}/{name}_{take:03}.bvh" for source in "ab" for name in ("walk", "sit") for take in range(100)]
    classes = {number: path.split("/")[1].split("_")[0] for number, path in enumerate(paths)}
    splits = _assign(paths, classes)
    for first in range(0, 400, 100):
        count = Counter(splits[first : first + 100])
        assert abs(count["test"] - 10) <= 1
        assert abs(count["val"] - 5) <= 1


def test_classes_of_one_recording_each_are_divided_too() -> None:
    paths = [f"a/{number}.bvh" for number in range(1000)]
    count = Counter(_assign(paths, dict(enumerate(map(str, range(1000))))))
    assert 70 < count["test"] < 130
    assert 30 < count["val"] < 70


def test_the_split_depends_on_path_and_seed_alone() -> None:
    paths = [f"a/walk_{number}.bvh" for number in range(200)]
    splits = dict(zip(paths, _assign(paths), strict=True))
    assert dict(zip(reversed(paths), _assign(paths[::-1]), strict=True)) == splits
    assert _assign(paths, seed=1) != list(splits.values())


def test_a_new_recording_moves_none_of_another_class() -> None:
    paths = [f"a/walk_{number}.bvh" for number in range(50)] + [f"a/sit_{number}.bvh" for number in range(50)]
    classes = {number: path.split("/")[1].split("_")[0] for number, path in enumerate(paths)}
    before = _assign(paths, classes)
    after = _assign([*paths, "a/sit_50.bvh"], {**classes, 100: "sit"})
    assert after[:50] == before[:50]


def test_takes_copies_and_twins_stay_together() -> None:
    paths = ["m.glb#a", "m.glb#b", "m.bvh", "n/m.bvh", "copy.npz", "m.extra.bvh", "x.bvh"]
    hashes = ["1", "1", "2", "3", "3", "4", "5"]
    assert recordings(paths, hashes) == [0, 0, 0, 3, 3, 5, 6]


def test_chains_of_copies_and_twins_are_one_recording() -> None:
    # a.bvh and a.npz share their name, a.npz and b.npz their content, b.npz and b.bvh their name.
    assert recordings(["a.bvh", "b.bvh", "a.npz", "b.npz"], ["1", "2", "3", "3"]) == [0, 0, 0, 0]


@given(
    st.lists(
        st.tuples(st.sampled_from(["a.bvh", "a.npz", "b/a.bvh", "c.glb#x", "c.glb#y", "d"]), st.sampled_from("123"))
    ),
    st.integers(0, 5),
)
def test_one_recording_is_never_in_two_splits(files: list[tuple[str, str]], seed: int) -> None:
    paths, hashes = [path for path, _ in files], [content for _, content in files]
    classes = {number: str(number) for number in range(0, len(files), 2)}
    splits = assign_splits(paths, hashes, classes, {}, official={}, val=0.3, test=0.3, seed=seed)
    for number, first in enumerate(recordings(paths, hashes)):
        assert splits[number] == splits[first]
    assert not splits or "train" in splits


def test_a_single_recording_is_for_training() -> None:
    assert all(_assign(["walk.bvh"], seed=seed) == ["train"] for seed in range(50))


def test_the_user_has_the_last_word() -> None:
    paths = ["m.glb#a", "m.glb#b", "n.bvh"]
    assert _assign(paths, given={1: "test", 2: "val"}) == ["test", "test", "val"]
    with pytest.raises(DataError, match=r"m.glb#b.*into train.*into test"):
        _assign(paths, given={0: "test", 1: "train"})


def test_an_official_split_is_kept_and_copies_in_two_are_trained_on_least() -> None:
    paths = ["a/walk.npz", "a/run.npz", "b/walk_again.npz", "b/other.npz"]
    hashes = ["1", "2", "1", "4"]
    official = {0: "train", 1: "train", 2: "test", 3: "train"}
    split = assign_splits(paths, hashes, {}, {1: "val"}, official=official, val=0.5, test=0.4, seed=0)
    assert split == ["test", "val", "test", "train"]
