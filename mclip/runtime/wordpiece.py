"""BERT's tokenizer for plain ASCII texts, which nearly all prompts are.

The library that reads every tokenizer takes longer to load and to build its tables than a motion takes to decode.
Splitting ASCII needs neither Unicode nor tables, and gives the very same tokens; all else is left to the library.
"""

from __future__ import annotations

import json
import re
from typing import Any

_WORD = re.compile(r"[a-z0-9]+|[^a-z0-9 ]")
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
        self._first: list[int] = special[first["SpecialToken"]["id"]]["ids"]
        self._last: list[int] = special[last["SpecialToken"]["id"]]["ids"]
        self._numbers: dict[str, int] = model["vocab"]
        self._unknown: int = self._numbers[model["unk_token"]]
        self._prefix: str = model["continuing_subword_prefix"]
        self._longest: int = model["max_input_chars_per_word"]
        # Words that the library finds in a text before it splits it.
        self._added: list[str] = [token["content"] for token in table["added_tokens"]]

    def __call__(self, text: str) -> list[int] | None:
        """The token ids of a text; None for one that takes more than this to split."""
        if not text.isascii() or not text.isprintable() or any(word in text for word in self._added):
            return None
        ids = [number for word in _WORD.findall(text.lower()) for number in self._pieces(word)]
        return [*self._first, *ids, *self._last]

    def _pieces(self, word: str) -> list[int]:
        """The longest known beginning, then the longest of what is left, and so on."""
        if len(word) > self._longest:
            return [self._unknown]
        ids: list[int] = []
        start = 0
        while start < len(word):
            for stop in range(len(word), start, -1):
                number = self._numbers.get(word[start:stop] if start == 0 else self._prefix + word[start:stop])
                if number is not None:
                    break
            else:
                return [self._unknown]
            ids.append(number)
            start = stop
        return ids


def open_wordpiece(content: bytes) -> WordPiece | None:
    """The tokenizer of a tokenizer.json; None if it is of another kind."""
    try:
        return WordPiece(json.loads(content))
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
