"""Templates that mean harm: everything that grows without end is refused before it hurts, and honest work is not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from hodios.dialog.growth import MAX_CHARACTERS
from hodios.dialog.template import ChatTemplate
from hodios.errors import InvalidRequest

CHAT = ({"role": "user", "content": "x"},)
# A list that holds the one before twice, 60 times over: a few objects, 2⁶⁰ items when shown.
TWICE = "{% set n = namespace(s=['a']) %}{% for i in range(60) %}{% set n.s = [n.s, n.s] %}{% endfor %}"
DICTIONARIES = TWICE.replace("[n.s, n.s]", "{'a': n.s, 'b': n.s}")
BIG = "{% set big = 'a' * 10000000 %}"


def render(source: str, timer: Callable[[], float] = lambda: 0.0) -> str:
    clock = lambda: datetime(2026, 1, 2, tzinfo=UTC)  # noqa: E731
    return ChatTemplate(source, bos_token="", eos_token="", clock=clock, timer=timer).render(CHAT)


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) | map('string') %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) recursive %}{{ loop(range(99999)) }}{% endfor %}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set l = range(99999) | list %}{% for i in l %}{% set x = l | sum %}{% endfor %}",
        BIG + "{% for i in range(99999) %}{% set x = big | upper %}{% endfor %}",
        "{{ range(10 ** 12) | list }}",
        "{{ lipsum(n=1000000) }}",
    ],
)
def test_endless_work(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hodios.dialog.sandbox.MAX_STEPS", 150_000)
    with pytest.raises(InvalidRequest, match=r"steps|recursion|Range too big|undefined"):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 10 ** 10 }}",
        "{{ 10 ** 10 * 'a' }}",
        "{{ [0] * 10 ** 10 }}",
        "{% set n = namespace(s='aa') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
        "{% set n = namespace(s='aa') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
        "{% set n = namespace(s='aa') %}{% for i in range(60) %}{% set x %}{{ n.s }}{{ n.s }}{% endset %}"
        "{% set n.s = x %}{% endfor %}",
        "{% for i in range(99999) %}{{ 'a' * 1000000 }}{% endfor %}",
        "{{ 'a' | center(10 ** 10) }}",
        "{{ 'a'.ljust(10 ** 10) }}",
        "{{ ('a\n' * 1000000) | indent(1000000) }}",
        "{{ '%99999999999d' % 1 }}",
        "{{ '%*d' % (9999999999, 1) }}",
        "{{ '%(x)9999999999d' % {'x': 1} }}",
        "{{ '%9999999999d' | format(1) }}",
        "{{ '{:>9999999999}'.format(1) }}",
        "{{ '{:>{}}'.format(1, 9999999999) }}",
        "{{ ('a' * 1000000) | replace('a', 'b' * 1000000) }}",
        "{{ ('a' * 1000000).replace('', 'b' * 1000000) }}",
        "{{ range(99999) | join('b' * 1000000) }}",
        "{{ ('b' * 1000000).join('a' * 1000000) }}",
        "{{ [1] | batch(10000000000, 0) | list }}",
        "{{ [1] | slice(10000000000) | list }}",
        "{{ [1, [2]] | tojson(indent=1000000000) }}",
    ],
)
def test_endless_text(source: str) -> None:
    with pytest.raises(InvalidRequest, match=r"longer than|more than \d+ characters|too wide"):
        render(source)


@pytest.mark.parametrize("nested", [TWICE, DICTIONARIES])
@pytest.mark.parametrize(
    "use",
    [
        "{{ n.s }}",
        "{{ n.s | tojson }}",
        "{% set x = n.s ~ '' %}",
        "{% set x = '%s' % (n.s,) %}",
        "{% set x = '{}'.format(n.s) %}",
        "{% set x = n.s | upper %}",
        "{{ n.s == n.s }}",
    ],
)
def test_values_that_repeat_themselves(nested: str, use: str) -> None:
    with pytest.raises(InvalidRequest, match="items"):
        render(nested + use)


@pytest.mark.parametrize(
    "source",
    [
        "{% set n = namespace(i=3) %}{% for i in range(60) %}{% set n.i = n.i * n.i %}{% endfor %}",
        "{{ 10 ** (10 ** 9) }}",
        "{{ 2 ** 100000 }}",
        "{{ ('f' * 1000000) | int(base=16) }}",
    ],
)
def test_endless_numbers(source: str) -> None:
    with pytest.raises(InvalidRequest, match="number"):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__closure__ }}",
        "{{ range.__self__ }}",
        "{{ messages.append(1) }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ namespace.__init__ }}",
    ],
)
def test_ways_out(source: str) -> None:
    try:
        text = render(source)
    except InvalidRequest:
        text = ""
    assert text == ""


def test_a_namespace_in_itself_is_not_shown() -> None:
    assert render("{% set n = namespace() %}{% set n.n = n %}{{ n }}") == "<namespace>"


def test_time_is_bounded() -> None:
    seconds = itertools.count()
    with pytest.raises(InvalidRequest, match=r"more than 5\.0 s"):
        render("{% for i in range(1000) %}{% endfor %}", timer=lambda: float(next(seconds)))


def test_each_rendering_has_its_own_budget() -> None:
    template = ChatTemplate(
        "{% for i in range(9) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}x",
        bos_token="",
        eos_token="",
        clock=lambda: datetime(2026, 1, 2, tzinfo=UTC),
        timer=lambda: 0.0,
    )
    assert [template.render(CHAT) for _ in range(4)] == ["x"] * 4


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ 'ab' ~ 1 ~ none }}", "ab1None"),
        ("{{ [1, 'a', [messages[0].content]] }}", "[1, 'a', ['x']]"),
        ("{% for a, b in {'x': 1}.items() %}{{ a }}{{ b }}{% endfor %}", "x1"),
        ("{% for c in 'ab' %}{{ loop.index }}{{ c }}{% else %}none{% endfor %}", "1a2b"),
        ("{% for c in nothing %}{{ c }}{% else %}none{% endfor %}", "none"),
        ("{{ '%s-%5d' % ('a', 3) }}{{ '{}-{:>3}'.format('a', 3) }}", "a-    3a-  3"),
        ('{{ \'{"a": {"b": %s}}\' % 1 }}', '{"a": {"b": 1}}'),
        ("{{ 7 % 4 }}|{{ 2 ** 10 }}|{{ 3 * 'ab' }}|{{ 'a' ~ 'b' * 2 }}", "3|1024|ababab|abb"),
        ("{% set a, b = (1, messages) %}{{ a }}{{ b | length }}", "11"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1"),
        ("{{ ['b', 'a'] | sort | join(', ') }}{{ 'a b'.split() | last }}", "a, bb"),
    ],
)
def test_honest_templates(source: str, text: str) -> None:
    assert render(source) == text


def test_the_longest_text_fits() -> None:
    assert len(render(f"{{{{ 'a' * {MAX_CHARACTERS} }}}}")) == MAX_CHARACTERS


def test_large_chats_stay_inside_the_budget() -> None:
    source = (
        "{% for m in messages %}{% if loop.index0 == messages | length - 1 %}{{ m.content | trim }}{% else %}"
        "{{ '<' ~ m.role ~ '>' ~ m.content.split('x')[0] | replace('a', 'b') }}{% endif %}{% endfor %}"
    )
    chat = [{"role": "user", "content": "a" * 500}] * 5000
    template = ChatTemplate(source, bos_token="", eos_token="", clock=lambda: datetime(2026, 1, 2, tzinfo=UTC))
    assert len(template.render(chat)) > 2_000_000
