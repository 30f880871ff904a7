"""How many commits lead to one and not to another, where the clocks of those who made them differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pygit2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptive_llm_gateway.memory._commit_count import commits_beyond

DAY = 86_400


class History:
    """Commits made by several people, each with a clock of their own, who merge each other's."""

    def __init__(self, git: pygit2.Repository) -> None:
        self.git = git
        self._tree = git.TreeBuilder().write()
        self.ids: list[str] = []
        self.reached: list[set[int]] = []

    def add(self, time: int, parents: list[int]) -> None:
        number = len(self.ids)
        who = pygit2.Signature("a", "a@example.org", time, 0)
        names = [self.ids[parent] for parent in parents]
        self.ids.append(str(self.git.create_commit(None, who, who, f"{number}", self._tree, names)))
        self.reached.append({number}.union(*(self.reached[parent] for parent in parents)))


def made(folder: Path) -> History:
    git: Any = pygit2
    return History(git.init_repository(str(folder), bare=True))


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_count_is_exact_whatever_the_clocks_say(tmp_path: Path, data: st.DataObject) -> None:
    history = made(tmp_path / "repo.git")
    clocks = [0, *data.draw(st.lists(st.integers(-9 * DAY, 9 * DAY), min_size=2, max_size=2))]
    tips = [0, 0, 0]
    history.add(1_700_000_000, [])
    for number in range(1, data.draw(st.integers(2, 40))):
        who = data.draw(st.integers(0, 2))
        other = tips[data.draw(st.integers(0, 2))]
        history.add(1_700_000_000 + number + clocks[who], sorted({tips[who], other}))
        tips[who] = number
    for one, other in ((tips[0], tips[1]), (tips[1], tips[0]), (tips[2], tips[0]), (tips[1], tips[2])):
        expected = len(history.reached[one] - history.reached[other])
        assert commits_beyond(history.git, history.ids[one], history.ids[other]) == expected


def test_a_count_that_git_itself_gets_wrong_is_right(tmp_path: Path) -> None:
    history = made(tmp_path / "repo.git")
    history.add(500, [])
    # Nine commits of a clock that is behind, which somebody with a clock that is ahead has merged since.
    for number in range(9):
        history.add(10 + number, [number])
    history.add(1_000, [0])
    history.add(1_001, [10, 9])
    history.add(20, [9])
    assert commits_beyond(history.git, history.ids[12], history.ids[11]) == 1
    assert commits_beyond(history.git, history.ids[11], history.ids[12]) == 2
    assert commits_beyond(history.git, history.ids[11], history.ids[11]) == 0
