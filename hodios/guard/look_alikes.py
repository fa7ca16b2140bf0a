"""Characters that are taken for Latin letters (those that NFKD makes none of), and characters that nobody sees."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_ALIKE = {
    "a": "аαɑᴀꭺ",
    "b": "Ьвʙβƅᏼ",
    "c": "сᴄС",
    "d": "ԁɗᴅժ",
    "e": "еєҽᴇεЕЄɛəΕ",
    "f": "ƒϝꜰք",
    "g": "ɡɢցԍǥ",
    "h": "һհʜНнΗ",
    "i": "іıɩιɪΙІӏ",
    "j": "јʝᴊЈ",
    "k": "кκᴋКΚқ",
    "l": "ʟł",
    "m": "мᴍМΜ",
    "n": "ոռɴпηΝŋ",
    "o": "оοօσᴏОΟөøδ",
    "p": "рρᴘРΡþ",
    "q": "ԛզգ",
    "r": "гᴦʀɾ",
    "s": "ѕꜱʂЅ",
    "t": "тτᴛТΤƭ",
    "u": "υսᴜʋμцџ",
    "v": "ѵνᴠ",
    "w": "ԝωᴡшɯщ",
    "x": "хχХΧ",
    "y": "уүγʏУΥ",
    "z": "ᴢʐΖ",
}
LOOK_ALIKES: Mapping[int, str] = MappingProxyType(
    {ord(char): letter for letter, chars in _ALIKE.items() for char in chars}
)
INVISIBLE: Mapping[int, str] = MappingProxyType(
    {
        # Whole phrases in one character, which normalisation would spell out.
        **dict.fromkeys((0xFDFA, 0xFDFB), " "),
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
