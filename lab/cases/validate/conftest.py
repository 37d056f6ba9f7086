# SPDX-License-Identifier: Apache-2.0
"""One ground for the tables of a module; how long the answers took is printed at the end."""

import pytest

from broken import ANSWER_S, Ground

_times = {}


@pytest.fixture(scope="module")
def ground(free_lab_name):
    with Ground(free_lab_name) as made:
        made.judge_healthy()
        yield made
        _times.update(made.times)


def pytest_terminal_summary(terminalreporter):
    if _times:
        times = sorted(_times.values())
        late = {name: round(seconds, 2) for name, seconds in _times.items() if seconds > ANSWER_S}
        slowest = max(_times, key=_times.get)
        terminalreporter.write_line(f"validate: {len(times)} answers, median {times[len(times) // 2]:.2f} s, slowest "
                                    f"{_times[slowest]:.2f} s ({slowest}); longer than {ANSWER_S:.0f} s: {late or 'none'}")
