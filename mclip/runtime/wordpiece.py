"""BERT's tokenizer for plain ASCII texts, which nearly all prompts are.

The library that reads every tokenizer takes longer to load and to build its tables than a motion takes to decode.
Splitting ASCII needs neither Unicode nor tables, and gives the very same tokens; all else is left to the library.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

_WORD = re.compile(r"[a-z0-9]+|[^a-z0-9 ]")
# The library's ids are uint32.
_IDS = 1 << 32
Kind = TypeVar("Kind")
_NORMALIZER = {"type": "BertNormalizer", "clean_text": True, "lowercase": True}


class WordPiece:
    """A tokenizer.json that says no more than BERT's does."""

    def __init__(self, table: dict[str, Any]) -> None:
        """Raises KeyError, TypeError or ValueError for tokenizers of other kinds."""
        model, normalizer = table["model"], table["normalizer"]
        if (
            model["type"] != "WordPiece"
            or normalizer != {**normalizer, **_NORMALIZER}
            or table["pre_tokenizer"] != {"type": "BertPreTokenizer"}
            or table["post_processor"]["type"] != "TemplateProcessing"
        ):
            raise ValueError("not BERT's")
        first, sequence, last = table["post_processor"]["single"]
        special = table["post_processor"]["special_tokens"]
        if sequence["Sequence"]["id"] != "A":
            raise ValueError("not BERT's")
        self._first = _typed(special[first["SpecialToken"]["id"]]["ids"], list)
        self._last = _typed(special[last["SpecialToken"]["id"]]["ids"], list)
        self._numbers = _typed(model["vocab"], dict)
        self._unknown: int = self._numbers[model["unk_token"]]
        self._prefix = _typed(model["continuing_subword_prefix"], str)
        self._longest = _typed(model["max_input_chars_per_word"], int)
        # Words that the library finds in a text before it splits it.
        self._added = [_typed(token["content"], str) for token in table["added_tokens"]]

    def __call__(self, text: str) -> list[int] | None:
        """The token ids of a text; None for one that takes more than this to split, or has an id that is none."""
        if not text.isascii() or not text.isprintable() or any(word in text for word in self._added):
            return None
        ids = [number for word in _WORD.findall(text.lower()) for number in self._pieces(word)]
        ids = [*self._first, *ids, *self._last]
        return ids if all(type(number) is int and 0 <= number < _IDS for number in ids) else None

    def _pieces(self, word: str) -> list[int]:
        """The longest known beginning, then the longest of what is left, and so on."""
        if len(word) > self._longest:
            return [self._unknown]
        ids: list[int] = []
        start = 0
        while start < len(word):
            for stop in range(len(word), start, -1):
                piece = word[start:stop] if start == 0 else self._prefix + word[start:stop]
                if piece in self._numbers:
                    break
            else:
                return [self._unknown]
            ids.append(self._numbers[piece])
            start = stop
        return ids


def open_wordpiece(table: dict[str, Any]) -> WordPiece | None:
    """The tokenizer of a tokenizer.json's table; None if it is of another kind."""
    try:
        return WordPiece(table)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _typed(value: Any, kind: type[Kind]) -> Kind:
    if type(value) is not kind:
        raise TypeError(f"not BERT's: {kind.__name__} expected")
    return value
