"""The formats of tool calls that exist, by the names that catalogs and settings use."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hodios.dialog.formats.base import Format
from hodios.dialog.formats.generic import GenericFormat
from hodios.dialog.formats.hermes import HermesFormat
from hodios.dialog.formats.llama3 import Llama3Format
from hodios.dialog.formats.mistral import MistralFormat

_ALL: tuple[Format, ...] = (HermesFormat(), Llama3Format(), MistralFormat(), GenericFormat())
FORMATS: Mapping[str, Format] = MappingProxyType({format.name: format for format in _ALL})
