"""Characters that are taken for Latin letters, and characters that nobody sees."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_ALIKE = {
    "a": "аαɑ⍺ᴀꭺаạ",
    "b": "Ьвʙβƅᏼ",
    "c": "сϲᴄⅽϹС",
    "d": "ԁɗᴅⅾժ",
    "e": "еєҽᴇεЕЄ℮ɛəΕ",
    "f": "ƒϝꜰſք",
    "g": "ɡɢցԍǥ",
    "h": "һհʜНнΗ",
    "i": "іıɩιɪΙІӏⅰľ",
    "j": "јʝᴊЈ",
    "k": "кκᴋКΚқ",
    "l": "ⅼʟӏΙłⅠ",
    "m": "мᴍⅿМΜ",
    "n": "ոռɴпηΝŋ",
    "o": "оοօσᴏОΟөө0øδ",
    "p": "рρᴘРΡþ",
    "q": "ԛզգ",
    "r": "гᴦʀɾг",
    "s": "ѕꜱʂЅ",
    "t": "тτᴛТΤƭ",
    "u": "υսᴜʋμцџ",
    "v": "ѵνᴠⅴ",
    "w": "ԝωᴡшɯщ",
    "x": "хχⅹХΧ×",
    "y": "уүγʏУΥ",
    "z": "ᴢʐΖ",
}
LOOK_ALIKES: Mapping[int, str] = MappingProxyType(
    {ord(char): letter for letter, chars in _ALIKE.items() for char in chars if char != "0"}
)
INVISIBLE: Mapping[int, str] = MappingProxyType(
    {
        **dict.fromkeys((0x115F, 0x1160, 0x3164, 0xFFA0, 0x2800, 0x180E), ""),
        # Regional indicators, read as the letters they show.
        **{0x1F1E6 + place: chr(ord("a") + place) for place in range(26)},
        # Letters in squares and circles that Unicode does not call compatible with letters.
        **{0x1F150 + place: chr(ord("a") + place) for place in range(26)},
        **{0x1F170 + place: chr(ord("a") + place) for place in range(26)},
        # Tags: a whole ASCII alphabet that nobody sees and models read.
        **{0xE0000 + code: chr(code) for code in range(0x20, 0x7F)},
    }
)
