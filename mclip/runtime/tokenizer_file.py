"""What a tokenizer.json is made of, looked at before anything reads a text with it.

The tokenizers library knows parts that make a text of any length of a short one. Those that packs need do not:
https://github.com/huggingface/tokenizers/tree/main/tokenizers/src
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mclip.errors import PackError

# CLIP's has 2 MB, those of a hundred languages 17.
MAX_BYTES = 32_000_000
NORMALIZERS = frozenset({"BertNormalizer", "Lowercase", "NFC", "Replace", "Sequence", "Strip", "StripAccents"})
PRE_TOKENIZERS = frozenset({"BertPreTokenizer", "ByteLevel", "Sequence", "Split", "Whitespace", "WhitespaceSplit"})
POST_PROCESSORS = frozenset({"BertProcessing", "ByteLevel", "RobertaProcessing", "TemplateProcessing"})
MODELS = frozenset({"BPE", "WordLevel", "WordPiece"})
# Patterns that packs need; with others the library may look for a match for ever. Spaces, and the words of CLIP, whose
# original ignores case everywhere, which makes U+0345 neither a letter nor anything else: it is dropped.
SPACES = r"\s+"
CLIP_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}\x{345}]+"
# Of a word that is looked up piece by piece, which takes time with the square of it. BERT's is 100.
MAX_WORD = 200
# Parts of one kind, and what is put around a text: ours are three at most.
_MAX_PARTS = 16


def read_tokenizer(content: bytes, name: str) -> dict[str, Any]:
    """The table of a tokenizer.json; name is for messages. Raises PackError for one that is none, or no pack's."""
    try:
        if len(content) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES // 1_000_000} MB")
        table = json.loads(content)
        if not isinstance(table, dict) or not isinstance(table.get("model"), dict):
            raise ValueError("it has no model")
        _check(table)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise PackError(f"{name}: cannot be read ({error})", "re-run mclip export") from None
    return table


def _check(table: dict[str, Any]) -> None:
    for key, kinds, parts in (
        ("normalizer", NORMALIZERS, "normalizers"),
        ("pre_tokenizer", PRE_TOKENIZERS, "pretokenizers"),
        ("post_processor", POST_PROCESSORS, "processors"),
        ("model", MODELS, ""),
    ):
        for count, part in enumerate(_parts(table.get(key), parts), 1):
            if count > _MAX_PARTS or part["type"] not in kinds:
                raise ValueError(f"its {key} is of a kind that no pack needs: {str(part['type'])[:40]}")
            # One letter for one, or for many.
            if part["type"] == "Replace" and len(part["content"]) > 1:
                raise ValueError("its normalizer makes texts longer")
            if part.get("pattern", {}).get("Regex", SPACES) not in (SPACES, CLIP_WORDS):
                raise ValueError(f"its {key} has a pattern that no pack needs")
            if part["type"] == "TemplateProcessing" and len(part["single"]) > _MAX_PARTS:
                raise ValueError("its post_processor has too many parts")
    if table["model"].get("max_input_chars_per_word", 0) > MAX_WORD:
        raise ValueError(f"its words may have more than {MAX_WORD} letters")


def _parts(part: Any, several: str) -> Iterator[dict[str, Any]]:
    """A part and those it consists of."""
    if part is not None:
        yield part
        for each in part.get(several, ()):
            yield from _parts(each, several)
