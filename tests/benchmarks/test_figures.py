"""Ratios, tables and the document's sections."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import figures
from benchmarks.figures import Ratio, Result, Samples

POSITIVE = st.floats(min_value=1e-3, max_value=1e6)


def samples_of(**columns: list[float]) -> Samples:
    samples = Samples()
    for subject, values in columns.items():
        for value in values:
            samples.add(subject, "speed", value)
    return samples


def test_a_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_medians() -> None:
    samples = samples_of(ours=[10.0, 40.0, 90.0], theirs=[10.0, 10.0, 100.0])
    [result] = figures.results(samples, [Ratio("line", ("ours", "speed"), ("theirs", "speed"), 4.0)])
    assert result == Result("line", 1.0, 0.9, 4.0, 4.0)
    assert figures.result_lines([result]) == ["RESULT line 1.000"]


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=5))
def test_times_are_turned_round_so_that_more_is_better(pairs: list[tuple[float, float]]) -> None:
    samples = samples_of(ours=[own for own, _ in pairs], theirs=[theirs for _, theirs in pairs])
    speed, time = figures.results(
        samples,
        [
            Ratio("speed", ("theirs", "speed"), ("ours", "speed")),
            Ratio("time", ("ours", "speed"), ("theirs", "speed"), is_time=True),
        ],
    )
    assert (time.ratio, time.least, time.most) == (speed.ratio, speed.least, speed.most)
    assert time.least <= time.ratio <= time.most


def test_a_figure_that_is_a_ratio_already_is_told_as_it_is() -> None:
    [result] = figures.results(samples_of(ours=[0.8, 0.9]), [Ratio("share", ("ours", "speed"), None, 0.85)])
    assert result.ratio == pytest.approx(0.85)
    assert figures.verdict(result) == "met"


def test_lines_with_a_side_missing_are_left_out() -> None:
    samples = samples_of(ours=[1.0])
    ratios = [Ratio("a", ("ours", "speed"), ("theirs", "speed")), Ratio("b", ("theirs", "speed"), None)]
    assert figures.results(samples, ratios) == []


@pytest.mark.parametrize(("ratio", "target", "verdict"), [(1.0, 1.0, "met"), (0.99, 1.0, "missed"), (5.0, None, "")])
def test_verdicts(ratio: float, target: float | None, verdict: str) -> None:
    assert figures.verdict(Result("line", ratio, ratio, ratio, target)) == verdict


def test_the_table_has_medians_and_a_dash_where_nothing_was_measured() -> None:
    samples = samples_of(ours=[1000.0, 3000.0, 2000.0])
    samples.add("theirs", "delay", 0.1234)
    lines = figures.samples_table(samples, {"speed": "tokens/s", "delay": "s"})
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["", "ours", "theirs"]
    assert cells[2:] == [["speed, tokens/s", "2,000", "–"], ["delay, s", "–", "0.123"]]
    assert len({len(line) for line in lines}) == 1


def document(*sections: str) -> str:
    marked = (
        f"{figures.BEGIN.format(section=name, by='benchmarks.engine')}\nold {name}\n{figures.END.format(section=name)}"
        for name in sections
    )
    return "# Title\n\n" + "\n\ntext\n\n".join(marked) + "\n\nend\n"


def test_only_the_named_section_is_replaced_and_twice_is_as_good_as_once() -> None:
    once = figures.replace_section(document("engine", "engine-full"), "engine", ["new"])
    assert "old engine\n" not in once
    assert "\n\nnew\n\n" in once
    assert "old engine-full" in once
    assert once.startswith("# Title\n\n")
    assert once.endswith("\n\nend\n")
    assert figures.replace_section(once, "engine", ["new"]) == once


def test_a_new_section_comes_last() -> None:
    text = figures.replace_section(document("other"), "engine", ["new"])
    assert text.startswith(document("other").rstrip())
    assert "\n## engine\n" in text
    assert figures.replace_section(text, "engine", ["newer"]) == text.replace("\nnew\n", "\nnewer\n")


@pytest.mark.parametrize(
    "text", [document("engine") * 2, figures.BEGIN.format(section="engine", by="benchmarks.engine")]
)
def test_a_document_with_other_markers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must hold once"):
        figures.replace_section(text, "engine", ["new"])
