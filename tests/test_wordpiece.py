"""Plain texts are split as the tokenizers library splits them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

import mclip
from mclip.runtime.wordpiece import open_wordpiece

CONTENT = (Path(mclip.__file__).parent / "packs" / "mini" / "tokenizer.json").read_bytes()
OURS = open_wordpiece(CONTENT)
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
    assert open_wordpiece(json.dumps({**json.loads(CONTENT), key: value}).encode()) is None
    assert open_wordpiece(b"{") is None
