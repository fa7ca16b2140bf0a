"""The stretch of time that counts."""

import pytest

from benchmarks.recording import Recording, Window
from hodios.engine.messages import Output, Stats


def stats(infer_s: float, step_s: float) -> Stats:
    return Stats(
        num_waiting=0, num_running=2, free_blocks=1, cached_blocks=0, num_blocks=9, infer_s=infer_s, step_s=step_s
    )


def output(id: int, num_tokens: int, *, ends: bool = False) -> Output:
    return Output(id=id, index=0, tokens=[7] * num_tokens, finish_reason="length" if ends else None)


def test_the_window_lies_between_the_last_beginning_and_the_first_end() -> None:
    recording = Recording([1, 2], began_s=10.0)
    frames = [
        (11.0, stats(0.0, 0.0), [output(1, 1)]),
        (12.0, stats(1.0, 1.0), [output(1, 1), output(2, 1)]),
        (13.0, stats(1.8, 2.0), [output(1, 3), output(2, 1)]),
        (14.0, stats(2.6, 3.0), [output(2, 1), output(1, 1, ends=True)]),
        (16.0, stats(3.0, 4.0), [output(2, 5, ends=True)]),
    ]
    for now_s, stats_then, outputs in frames:
        for each in outputs:
            recording.add(each, stats_then, now_s)
    window = recording.window()
    assert window.num_tokens == 6
    assert window.seconds == pytest.approx(2.0)
    assert window.infer_s / window.step_s == pytest.approx(0.8)
    assert recording.first_s == {1: pytest.approx(1.0), 2: pytest.approx(2.0)}
    assert recording.total_s == pytest.approx(6.0)
    assert recording.num_tokens == 14


def test_outputs_of_one_frame_are_one_arrival_at_the_time_of_its_first() -> None:
    recording = Recording([1, 2], began_s=0.0)
    first, second = stats(0.0, 0.0), stats(1.0, 1.0)
    recording.add(output(1, 1), first, 1.0)
    recording.add(output(2, 1), first, 1.5)
    recording.add(output(1, 4, ends=True), second, 2.0)
    recording.add(output(2, 4, ends=True), second, 2.5)
    assert recording.window() == Window(8, 1.0, 1.0, 1.0)


def test_without_a_common_time_there_is_no_window() -> None:
    recording = Recording([1, 2], began_s=0.0)
    recording.add(output(1, 4, ends=True), stats(0.0, 0.0), 1.0)
    with pytest.raises(ValueError, match="had ended"):
        recording.window()
    recording.add(output(2, 4, ends=True), stats(1.0, 1.0), 2.0)
    with pytest.raises(ValueError, match="had ended"):
        recording.window()


def test_windows_add_up() -> None:
    assert Window(1, 2.0, 3.0, 4.0) + Window(10, 20.0, 30.0, 40.0) == Window(11, 22.0, 33.0, 44.0)
