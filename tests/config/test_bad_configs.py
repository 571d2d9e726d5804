"""Every broken configuration in tests/configs/bad/ is refused with the very lines beside it: line, key, what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailserv.cli.config import read_and_check
from mailserv.errors import ConfigError

BAD = Path(__file__).parent.parent / "configs" / "bad"


@pytest.mark.parametrize("path", sorted(BAD.glob("*.toml")), ids=lambda path: path.stem)
def test_every_problem_of_a_broken_file_is_told_at_once(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_and_check(path)
    assert [problem.removeprefix(f"{path}:") for problem in caught.value.problems] == (
        path.with_suffix(".expected").read_text(encoding="utf-8").splitlines()
    )


def test_no_expectation_is_left_without_its_file() -> None:
    assert {path.stem for path in BAD.glob("*.expected")} == {path.stem for path in BAD.glob("*.toml")}
