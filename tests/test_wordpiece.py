"""Plain texts are split as the tokenizers library splits them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

import mclip
from mclip.errors import PackError
from mclip.runtime.tokenizer_file import read_tokenizer
from mclip.runtime.wordpiece import open_wordpiece

CONTENT = (Path(mclip.__file__).parent / "packs" / "mini" / "tokenizer.json").read_bytes()
OURS = open_wordpiece(json.loads(CONTENT))
LIBRARY = Tokenizer.from_buffer(CONTENT)
LIBRARY.no_truncation()
LIBRARY.no_padding()
WORDS = st.sampled_from(["walk", "ing", "Jogging", "unbelievably", "x" * 100, "x" * 101, "don't", "[UNK", "~", "42nd"])


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)) | st.lists(WORDS).map(" ".join))
def test_a_plain_text_has_the_librarys_tokens(text: str) -> None:
    assert OURS is not None
    found = OURS(text)
    assert found == LIBRARY.encode(text).ids if found is not None else "[" in text


@pytest.mark.parametrize("text", ["naïve", "tab\tbed", "\x7f", "[CLS] walk", "走"])
def test_other_texts_are_left_to_the_library(text: str) -> None:
    assert OURS is not None and OURS(text) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", {"type": "BPE"}),
        ("normalizer", {"type": "BertNormalizer", "clean_text": True, "lowercase": False}),
        ("pre_tokenizer", {"type": "Whitespace"}),
        ("post_processor", None),
        ("post_processor", {"type": "TemplateProcessing", "single": [], "special_tokens": {}}),
    ],
)
def test_a_tokenizer_of_another_kind_is_left_to_the_library(key: str, value: object) -> None:
    assert open_wordpiece({**json.loads(CONTENT), key: value}) is None
    assert open_wordpiece({}) is None


def changed(path: str, value: object) -> dict[str, Any]:
    """The table with another value at "model/vocab/walk", say."""
    table: dict[str, Any] = json.loads(CONTENT)
    *keys, last = path.split("/")
    place: Any = table
    for key in keys:
        place = place[int(key) if isinstance(place, list) else key]
    place[last] = value
    return table


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model/vocab", list(range(30_522))),
        ("model/max_input_chars_per_word", "9"),
        ("model/max_input_chars_per_word", True),
        ("model/continuing_subword_prefix", 3),
        ("post_processor/special_tokens/[CLS]/ids", "abc"),
        ("post_processor/special_tokens/[CLS]/ids", 5),
        ("post_processor/special_tokens/[SEP]", [1]),
        ("added_tokens/0/content", None),
        ("added_tokens/0/content", []),
        ("added_tokens", 3),
    ],
)
def test_a_table_of_wrong_types_is_left_to_the_library_which_refuses_it(path: str, value: object) -> None:
    table = changed(path, value)
    assert open_wordpiece(table) is None
    with pytest.raises(Exception, match=r"."):
        Tokenizer.from_str(json.dumps(table))


@pytest.mark.parametrize("value", ["x", [1], 2**70, 2**32, -1, 1.5, True, None])
def test_an_id_that_is_none_is_left_to_the_library_which_refuses_it(value: object) -> None:
    for path in ("model/vocab/walk", "post_processor/special_tokens/[CLS]/ids"):
        table = changed(path, [value] if path.endswith("ids") else value)
        ours = open_wordpiece(table)
        assert ours is not None and ours("a walk") is None
        with pytest.raises(Exception, match=r"."):
            Tokenizer.from_str(json.dumps(table))


REPLACE = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 64}


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("normalizer", REPLACE, "makes texts longer"),
        ("normalizer", {"type": "Sequence", "normalizers": [REPLACE]}, "makes texts longer"),
        ("normalizer", {"type": "Prepend", "prepend": "a" * 10**6}, "a kind that no pack needs: Prepend"),
        ("pre_tokenizer", {"type": "Split" * 20}, "a kind that no pack needs: Split"),
        ("post_processor/single", [{"Sequence": {"id": "A", "type_id": 0}}] * 1000, "too many parts"),
        ("normalizer", {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 100}, "a kind that no pack needs"),
        ("model/type", "Unigram", "a kind that no pack needs: Unigram"),
        ("model/max_input_chars_per_word", 10**9, "more than 200 letters"),
        ("model/max_input_chars_per_word", "9", "cannot be read"),
        ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}}, "its pre_tokenizer has a pattern"),
        ("normalizer", [1], "cannot be read"),
        ("model", None, "cannot be read"),
    ],
)
def test_parts_that_no_pack_needs_are_refused(path: str, value: object, says: str) -> None:
    with pytest.raises(PackError, match=says):
        read_tokenizer(json.dumps(changed(path, value)).encode(), "tokenizer.json")
    for content in (b"[]", b"{", b"{}", b"[" * 100_000):
        with pytest.raises(PackError, match="cannot be read"):
            read_tokenizer(content, "tokenizer.json")
