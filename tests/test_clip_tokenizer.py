"""The tokenizer file and its cleaning against openai-clip's SimpleTokenizer: the same ids for tens of thousands.

Letters that the running Python does not know are left out: which of them are letters depends on Unicode's version, and
each library has its own.
"""

from __future__ import annotations

import html
import random
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from mclip.nn import clip
from mclip.runtime.cleaning import clean
from tests.clips import openai_clip

NAMES = (Path(__file__).parent / "golden" / "clip" / "names.txt").read_text(encoding="utf-8").splitlines()
KNOWN = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co")]
LOW = [letter for letter in KNOWN if letter < "\u3000"]
ENTITIES = [f"&{name}" for name in html.entities.html5]
WORDS = (
    "'s 't 're 've 'm 'll 'd 'S 'RE 'ſ ’s don I'm THEY 12 3.5 ½ ① é e\u0301 ß İ Σας ﬁ “x” … &amp; &lt;b&gt; &amp;lt; "
    "👩‍🦰 🤸🏽 🇫🇷 𝓗 ǅ ひと 走る человек رجل _ - -- ... !? &#39; left-handed"
).split(" ")
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\u200b", "\x0b", "\x1c", "\x85", "\ufeff", ""]
BROKEN = [
    text.encode("utf-8").decode(codec, "replace")
    for text in ("naïve walk", "“quoted”", "l’été", "Müller läuft", "走る")
    for codec in ("latin-1", "cp1252")
]


@pytest.fixture(scope="module")
def theirs() -> Any:
    return openai_clip("simple_tokenizer").SimpleTokenizer()


@pytest.fixture(scope="module")
def ours() -> Any:
    return Tokenizer.from_str(clip.tokenizer_json(clip._package_folder() / "bpe_simple_vocab_16e6.txt.gz"))


def check(ours: Any, theirs: Any, texts: list[str]) -> None:
    found = ours.encode_batch([clean(text, "ftfy") for text in texts])
    wrong = [text for text, item in zip(texts, found, strict=True) if item.ids != [49406, *theirs.encode(text), 49407]]
    assert not wrong, f"{len(wrong)} of {len(texts)}: {wrong[:5]!r}"


def drawn(seed: int, parts: list[str], count: int, length: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices(parts, k=draw.randint(1, length))) for _ in range(count)]


def test_names_of_things(ours: Any, theirs: Any) -> None:
    assert len(NAMES) > 3000
    check(ours, theirs, [text for name in NAMES for text in (name, f"a {name}", f"A PERSON WITH {name.upper()}.")])


def test_every_letter(ours: Any, theirs: Any) -> None:
    check(ours, theirs, [f"a{letter}b1{letter}?{letter}" for letter in LOW])
    # The others, most of them Chinese, in fewer texts.
    check(ours, theirs, ["".join(KNOWN[at : at + 200]) for at in range(len(LOW), len(KNOWN), 200)])


def test_words_contractions_emoji_and_odd_white_space(ours: Any, theirs: Any) -> None:
    # As the first of a word only: behind punctuation the original reads a special token as punctuation and a word.
    special = [" <|startoftext|>", " <|ENDOFTEXT|>", "\n<|endoftext|>"]
    check(ours, theirs, drawn(0, WORDS + SPACES * 3 + special, 4000, 14))


def test_ascii_with_control_characters(ours: Any, theirs: Any) -> None:
    check(ours, theirs, drawn(1, [chr(code) for code in range(128)], 4000, 30))


def test_letters_of_all_alphabets(ours: Any, theirs: Any) -> None:
    check(ours, theirs, drawn(2, LOW, 2000, 20) + drawn(3, KNOWN, 2000, 20))


def test_entities_once_and_twice(ours: Any, theirs: Any) -> None:
    check(ours, theirs, [f"{entity}{end}" for entity in ENTITIES for end in ("", "a 1")])
    check(ours, theirs, [html.escape(html.escape(text)) for text in drawn(4, [*LOW, "<", ">", "&"], 1000, 12)])
    check(ours, theirs, [f"&#{ord(c)};&#x{ord(c):x};b" for c in LOW])


def test_wrongly_decoded_text(ours: Any, theirs: Any) -> None:
    check(ours, theirs, [*BROKEN, "", " "])


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from(sorted({*KNOWN, *"<|>&;#'"})), max_size=60))
def test_anything(ours: Any, theirs: Any, text: str) -> None:
    check(ours, theirs, [text])


def test_plain_ascii_needs_no_cleaning_beyond_the_files_own(ours: Any, theirs: Any) -> None:
    texts = [
        "A person  waves\twith the LEFT hand, doesn't he? (3.5 m)",
        *drawn(5, [chr(c) for c in range(32, 38)], 50, 9),
    ]
    assert [ours.encode(text).ids[1:-1] for text in texts] == [theirs.encode(text) for text in texts]


def test_ftfy_is_loaded_only_for_texts_that_may_need_it() -> None:
    code = (
        "import sys; from mclip.runtime.cleaning import clean; "
        "clean('A person waves, doesn\\'t he?', 'ftfy'); assert 'ftfy' not in sys.modules; "
        "assert clean('L’ÉTÉ', 'ftfy') == \"l'été\"; assert 'ftfy' in sys.modules"
    )
    subprocess.run([sys.executable, "-X", "utf8", "-c", code], check=True)


def test_no_cleaning_leaves_a_text_alone() -> None:
    assert clean(" A&amp;B\n", "none") == " A&amp;B\n"
