"""JSON as models write it when nothing holds them to it, made into JSON. All that is right stays as written.

Mends what `json_scanner` follows: single quotes, True, False and None, trailing commas, raw control characters in
strings, and backslashes that JSON does not know. Reads no values, so that no number is rounded and no nesting too deep.
"""

from __future__ import annotations

import json
import re

from hodios.dialog.json_scanner import JsonScanner, Mark
from hodios.dialog.splitter import SPACE

_TOKEN = re.compile(
    r"""(?s)"[^"\\]*(?:\\.[^"\\]*)*"|'[^'\\]*(?:\\.[^'\\]*)*'|\b(?:True|False|None)\b|,[ \t\r\n]*(?=[}\]])"""
)
_WORDS = {"True": "true", "False": "false", "None": "null"}
_ESCAPE = re.compile(
    r"""(?s)\\(?:u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|U(?:000[0-9a-fA-F]|0010)[0-9a-fA-F]{4}|[0-7]{1,3}|.)|["\x00-\x1f]"""
)
_SURROGATES = re.compile("[\ud800-\udfff]")


def mend(text: str) -> str:
    """The JSON that was meant by `text`, a whole value that `JsonScanner` has followed to its end."""
    return _TOKEN.sub(_mend_token, text)


def _mend_token(token: re.Match[str]) -> str:
    text = token[0]
    if text[0] in "\"'":
        return '"' + _ESCAPE.sub(_mend_escape, text[1:-1]) + '"'
    return _WORDS.get(text, "")


def _mend_escape(found: re.Match[str]) -> str:
    escape = found[0]
    if len(escape) == 1:
        return json.dumps(escape)[1:-1]
    code = escape[1]
    if code in '"\\/bfnrt' or (code == "u" and len(escape) == 6):
        return escape
    if code == "'":
        return "'"
    if code == "\n":
        return ""
    if code in "xU" and len(escape) > 2:
        return json.dumps(chr(int(escape[2:], 16)), ensure_ascii=True)[1:-1]
    if code in "01234567":
        return json.dumps(chr(int(escape[1:], 8)))[1:-1]
    return "\\\\" + _ESCAPE.sub(_mend_escape, code)


def read_string(text: str) -> str | None:
    """What a JSON or Python string says; None where it holds half a surrogate pair, which no text may."""
    said: str = json.loads(mend(text))
    return None if _SURROGATES.search(said) else said


def read_arguments(text: str, *, is_strict: bool) -> str | None:
    """The JSON object that a call's arguments say; None where they are no object.

    An object that is right stays as written, byte for byte. A string that holds an object is unwrapped; null, and a
    string that holds nothing, mean that there are none: `{}`.
    """
    if text[0] == "{":
        return text if is_strict else mend(text)
    if text in ("null", "None"):
        return "{}"
    if text[0] not in "\"'":
        return None
    inner = _SURROGATES.sub(lambda half: f"\\u{ord(half[0]):04x}", json.loads(mend(text))).strip(SPACE)
    if not inner:
        return "{}"
    if inner[0] != "{":
        return None
    scanner, position = JsonScanner(), 0
    while scanner.mark is not Mark.WHOLE:
        position = scanner.advance(inner, position)
        if scanner.mark in (None, Mark.BROKEN):
            return None
    if position < len(inner):
        return None
    return inner if scanner.is_strict else mend(inner)
