"""Images that a client hands over: data URIs are checked for type and size, addresses passed on. Fetches nothing."""

from __future__ import annotations

import binascii
import re
from typing import Any

from hodios.api.checks import OBJECT, Kind, either, list_of, refusal, string

MAX_IMAGE_BYTES = 20 * 2**20
MAX_IMAGES = 64
ACCEPTS = (
    "a data URI such as data:image/png;base64,… (png, jpeg, webp or gif, at most 20 MiB), or an http or https address"
)
_DATA = re.compile(r"data:image/(?:png|jpeg|webp|gif);base64,", re.IGNORECASE)
_ADDRESS = re.compile(r"https?://[^\s/\x00-\x1f\x7f][^\s\x00-\x1f\x7f]{0,8000}", re.IGNORECASE)


def check_image(path: str, value: Any) -> str:
    """The data URI or address in `value`, a string or an object with `url`. Raises InvalidRequest."""
    if type(value) is dict:
        path, value = f"{path}.url", value.get("url")
    if type(value) is not str:
        raise refusal(path, value, "is not an image", ACCEPTS)
    if _ADDRESS.fullmatch(value):
        return value
    head = _DATA.match(value)
    if head is None:
        raise refusal(path, value, "is not an image that can be read", ACCEPTS)
    content = value[head.end() :]
    if len(content) > -(-MAX_IMAGE_BYTES // 3) * 4:
        raise refusal(path, value, "is too large", ACCEPTS)
    try:
        is_empty = not binascii.a2b_base64(content, strict_mode=True)
    except ValueError:
        raise refusal(path, value, "is not valid base64", ACCEPTS) from None
    if is_empty:
        raise refusal(path, value, "is empty", ACCEPTS)
    return value


def _parse_entry(name: str, value: Any) -> str:
    """An image, or a content part that holds one."""
    if type(value) is dict and "image_url" in value:
        return check_image(f"{name}.image_url", value["image_url"])
    return check_image(name, value)


_ENTRY = either(
    (str, Kind(ACCEPTS, string(2**30).schema, _parse_entry)), (dict, Kind('{"url": "…"}', OBJECT.schema, _parse_entry))
)
_LIST = list_of(_ENTRY, plural="images", max_items=MAX_IMAGES)


def _parse_images(name: str, value: Any) -> tuple[str, ...]:
    if type(value) is list:
        images: tuple[str, ...] = _LIST.parse(name, value)
        return images
    return (_ENTRY.parse(name, value),)


IMAGES = Kind(
    f"{ACCEPTS}; or a list of up to {MAX_IMAGES} of these", {"anyOf": [_ENTRY.schema, _LIST.schema]}, _parse_images
)
