"""Functions whose definitions are compared with what `transformers` makes of them. The first two are Hermes' own."""

from __future__ import annotations

import enum
from typing import Annotated, Any, Dict, List, Literal, Optional, Tuple, Union  # noqa: UP035 - old spellings count, too


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"
    NONE = None
    HALF = 0.5
    YES = True


def get_current_temperature(location: str, unit: str) -> float:
    """
    Get the current temperature at a location.

    Args:
        location: The location to get the temperature for, in the format "City, Country"
        unit: The unit to return the temperature in. (choices: ["celsius", "fahrenheit"])
    Returns:
        The current temperature at the specified location in the specified units, as a float.
    """
    return 22.0


def get_current_wind_speed(location: str) -> float:
    """
    Get the current wind speed in km/h at a given location.

    Args:
        location: The location to get the temperature for, in the format "City, Country"
    Returns:
        The current wind speed at the given location in km/h, as a float.
    """
    return 6.0


def scalars(text: str, whole: int, number: float, truth: bool, nothing: None, anything: Any) -> None:
    """Takes one of each.

    Args:
        text: A text
        whole: A whole number
        number: A number
        truth: Whether it is so
        nothing: Nothing
        anything: Anything
    """


def bare_containers(items: list, pair: tuple, table: dict) -> dict:
    """Containers that say nothing of what is in them.

    Args:
        items: Items
        pair: A pair
        table: A table
    """
    return {}


def containers(
    names: list[str], pair: tuple[int, str], table: dict[str, float], grid: list[list[int]], deep: dict[str, list[bool]]
) -> list[str]:
    """Containers that do.

    Args:
        names: Names
        pair: A pair
        table: A table
        grid: A grid
        deep: Deep

    Returns:
        More names
    """
    return []


def old_spellings(
    names: List[str],  # noqa: UP006
    pair: Tuple[int, str],  # noqa: UP006
    table: Dict[str, int],  # noqa: UP006
    bare: List,  # noqa: UP006
    maybe: Optional[str],  # noqa: UP045
    either: Union[int, str],  # noqa: UP007
) -> Optional[int]:  # noqa: UP045
    """As it was written before.

    Args:
        names: Names
        pair: A pair
        table: A table
        bare: Bare
        maybe: Maybe
        either: Either
    """


def unions(
    either: str | int,
    three: float | str | bool,
    maybe: int | None,
    lists: list[int] | None,
    complex_one: list[int] | dict[str, int],
    complex_maybe: list[int] | str | None,
    same: list | tuple,
    chosen: Literal["a"] | int,
) -> str | None:
    """All kinds of unions.

    Args:
        either: E
        three: T
        maybe: M
        lists: L
        complex_one: C
        complex_maybe: CM
        same: S
        chosen: Ch
    """


def choices(
    colour: Colour,
    level: Level,
    mixed: Mixed,
    word: Literal["a", "b"],
    number: Literal[1, 2],
    any_of: Literal[1, "x", None, True],
) -> Colour:
    """Chooses.

    Args:
        colour: A colour
        level: A level
        mixed: Mixed
        word: A word
        number: A number
        any_of: Any of these
    Returns:
        The colour
    """
    return colour


def enum_containers(colours: list[Colour], by_level: dict[str, Level], maybe: Colour | None = None) -> None:
    """Enums in containers.

    Args:
        colours: Colours
        by_level: By level
        maybe: Maybe one (choices: ["red"])
    """


def defaults(needed: str, number: int = 5, maybe: str | None = None, *, keyword: bool, other: float = 1.5) -> None:
    """Has defaults.

    Args:
        needed: Needed
        number: A number
        maybe: Maybe
        keyword: Needed as well
        other: Not needed
    """


def annotated(
    count: Annotated[int, "ignored where the docstring speaks"], name: Annotated[str | None, 1] = None
) -> None:
    """Annotated.

    Args:
        count: How many
        name: Who
    """


def positional(one: int, two: str = "x", /, three: float = 0.0) -> None:
    """Positional.

    Args:
        one: 1
        two: 2
        three: 3
    """


def no_parameters() -> str:
    """Says hello."""
    return "hello"


def no_return_hint(value: int):
    """Returns who knows what.

    Args:
        value: A value

    Returns:
        Something
    """


def undescribable_return(value: int) -> Colour | complex:
    """Returns what JSON has not.

    Args:
        value: A value

    Returns:
        Something
    """
    return 1j


def long_descriptions(first: str, second: int = 0, third: str = "") -> str:
    """
    Describes at length.

    It has a second paragraph, which says: nothing.
    And a line more.

    Args:
        first: The first line
            goes on here: with a colon,
            and here
        second:
            begins on the next line

            and goes on after a blank one
        third: Has (parentheses) and "quotes", é, 日本 and a URL: http://example.com/a?b=c

    Returns:
        A string

        in two paragraphs
            and indented
    Raises:
        ValueError: never
    """
    return ""


def raises_first(value: int) -> None:
    """Has Raises but no Returns.

    Args:
        value: A value

    Raises:
        ValueError: if it must
    """


def returns_inline(value: int) -> int:
    """Adds one. Returns: the sum

    Args:
        value: A value
    """
    return value + 1


def spaced_choices(unit: str, size: int = 1) -> None:
    """Chooses by docstring.

    Args:
        unit: The unit (Choices: [" metre ", "foot"])
        size: The size (choices: [1, 2, 3])
    """


def other_sections(value: int) -> int:
    """Has an example.

    Args:
        value: A value

    Example:
        other_sections(1)
    """
    return value


def mentions_parentheses(path: str) -> None:
    """Reads (choices: none) here.

    Args:
        path: The path (absolute) to read. (choices: ["/a", "/b (c)"])
    """


async def waits(seconds: float) -> bool:
    """Waits.

    Args:
        seconds: How long
    Returns:
        Whether it did
    """
    return True


# fmt: off
def tabs(value: str, other: str) -> None:
    """Is indented with tabs.

	Args:
		value: A value
			that goes on
		other: Another
    """


def tight(value: str, other: int) -> None:
    """Tight.
    Args:
      value:no space
      other:   many spaces
    Returns:
      nothing"""
# fmt: on
