"""What is told of filters in front of a gateway: ratios within rounds, and texts that are never the same."""

from __future__ import annotations

import itertools

from benchmarks import guard_gateway, upstream
from benchmarks.guard_gateway import APART, KNOWN, NEW, SAME, Round
from benchmarks.load import NUMBER

ASKED = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"


class Written:
    def __init__(self) -> None:
        self.answers: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.answers.append(data)


def answers(body: bytes) -> list[bytes]:
    server, transport = upstream._Server(upstream.response(upstream.JSON, body), itertools.count()), Written()
    server.connection_made(transport)
    for _ in range(3):
        server.data_received(ASKED)
    return transport.answers


def test_answers_with_a_place_for_it_have_numbers_of_their_own() -> None:
    numbered = answers(f'{{"content": "{NUMBER}"}}'.encode())
    assert len(set(numbered)) == 3
    assert len({len(answer) for answer in numbered}) == 1
    assert len(set(answers(b'{"content": "hello"}'))) == 1


def test_ratios_are_those_of_rounds() -> None:
    """A machine that is slow in one round is slow for both."""
    rounds = [Round(1000.0, 900.0), Round(100.0, 95.0), Round(2000.0, 1000.0)]
    found = {(SAME, KNOWN): rounds, (APART, NEW): rounds[:1]}
    lines = guard_gateway.table(found)
    assert lines[2] == f"| known texts, the guard process {SAME} | 1,000 | 900 | 0.90 |"
    assert guard_gateway.results(found) == [
        "RESULT guard-gateway-known-same-core 0.900",
        "RESULT guard-gateway-new-other-core 0.900",
    ]
