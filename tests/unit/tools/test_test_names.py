"""The check of test names: length, methods, coroutines, and nothing else."""

from pathlib import Path

from tools.test_names import LIMIT, long_names, main

LONGEST = "test_" + "x" * (LIMIT - 5)


def test_names_over_the_limit_are_found_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "test_sample.py").write_text(
        f"def {LONGEST}(): ...\n"
        f"def {LONGEST}y(): ...\n"
        f"class TestSample:\n    async def {LONGEST}z(self): ...\n"
        f"def helper_{LONGEST}(): ...\n"
    )

    assert list(long_names(tmp_path, ["test_sample.py"])) == [
        f"test_sample.py:2: {LONGEST}y has 61 characters, at most 60 are allowed",
        f"test_sample.py:4: {LONGEST}z has 61 characters, at most 60 are allowed",
    ]


def test_this_file_has_no_finding() -> None:
    assert main(["tests/unit/tools/test_test_names.py"]) == 0
