"""How a text is tidied before it is cut into tokens, as the manifest's `text_cleaning` says.

`none` leaves it as it is. `ftfy` is what openai-clip does: repair of wrongly decoded text, HTML entities resolved,
white space collapsed, lower case. No tokenizer.json can say this, and other texts would have other ids.
"""

from __future__ import annotations

import re

# Neither ftfy nor html changes ASCII without entities and control characters: what nearly all prompts are.
_PLAIN = re.compile(r"[ -%'-~\t\n\f\r]*")


def clean(text: str, how: str) -> str:
    """The text as its tokenizer wants it; how: one of mclip.pack.CLEANINGS."""
    if how == "none":
        return text
    if not _PLAIN.fullmatch(text):
        import html

        import ftfy  # 30 ms that plain texts need not wait for

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()
