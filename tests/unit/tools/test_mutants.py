"""`make mutants`: the changes that it makes, and whether the tests of a copy notice them."""

import ast
from pathlib import Path
from textwrap import dedent

import pytest

from tools.mutants.__main__ import main
from tools.mutants.mutations import mutants_of, sample
from tools.mutants.runner import COPIED, BaselineFails, Outcome, Runner

SOURCE = dedent(
    '''
    """A module, with 1 number in its docstring."""

    LIMIT: "int" = 3


    class Rule:
        @cache(maxsize=5)
        def holds(self, a: int, b: bool) -> bool:
            if a < LIMIT and not b:
                self.seen = True
                return a == 2
            raise ValueError(4)
    '''
)


def changes(source: str) -> list[tuple[str, str, str]]:
    """Kind, line before, line after of every mutant."""
    found = []
    for each in mutants_of("module.py", source):
        mutated = each.applied(source)
        found.append((each.kind, mutated.before, mutated.after))
    return found


def test_every_kind_of_change_is_made() -> None:
    assert sorted(changes(SOURCE)) == sorted(
        [
            ("constant", "LIMIT: 'int' = 3", "LIMIT: 'int' = 4"),
            ("constant", "LIMIT: 'int' = 3", "LIMIT: 'int' = 2"),
            ("branch removed", "if a < LIMIT and (not b):", "if False:"),
            ("and/or", "if a < LIMIT and (not b):", "if a < LIMIT or not b:"),
            ("comparison", "if a < LIMIT and (not b):", "if a <= LIMIT and (not b):"),
            ("comparison", "if a < LIMIT and (not b):", "if a >= LIMIT and (not b):"),
            ("not dropped", "if a < LIMIT and (not b):", "if a < LIMIT and b:"),
            ("statement removed", "self.seen = True", "pass"),
            ("constant", "self.seen = True", "self.seen = False"),
            ("comparison", "return a == 2", "return a != 2"),
            ("constant", "return a == 2", "return a == 3"),
            ("constant", "return a == 2", "return a == 1"),
        ]
    )


def test_every_mutant_of_the_folds_is_a_module_of_its_own() -> None:
    path = Path("consumers/calls/ending.py")
    source = path.read_text(encoding="utf-8")
    plain = ast.unparse(ast.parse(source))
    mutants = list(mutants_of(str(path), source))

    for each in mutants[:: max(1, len(mutants) // 40)]:
        mutated = each.applied(source)
        compile(mutated.tree, str(path), "exec")
        assert ast.unparse(mutated.tree) != plain
        assert mutated.before != mutated.after


def test_a_sample_visits_every_function_and_follows_its_seed() -> None:
    path = "consumers/calls/ending.py"
    mutants = list(mutants_of(path, Path(path).read_text(encoding="utf-8")))
    functions = {each.function for each in mutants}
    chosen = sample(mutants, len(functions), seed=1)

    assert {each.function for each in chosen} == functions
    assert chosen == sample(mutants, len(functions), seed=1)
    assert chosen != sample(mutants, len(functions), seed=2)
    assert len(sample(mutants, 100_000, seed=1)) == len(mutants)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one rule, and a test that knows half of it."""
    root = tmp_path / "project"
    for name in COPIED:
        if "." not in name:
            (root / name).mkdir(parents=True)
            (root / name / "__init__.py").touch()
    (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\nmarkers = ['process']\n")
    (root / "consumers" / "rule.py").write_text(RULE)
    (root / "tests" / "test_rule.py").write_text(TESTS)
    return root


RULE = dedent(
    """
    LIMIT = 8


    def last() -> int:
        return 2


    LAST = last()


    class Rule(int):
        @property
        def first(self) -> bool:
            return self < 3


    def second(n: int, step: int = 5) -> int:
        while n > 0:
            n -= 1
        return n


    def third(n: int) -> bool:
        return n == LIMIT
    """
)

TESTS = dedent(
    """
    from consumers.rule import LAST, Rule, second, third


    def test_first() -> None:
        assert Rule(1).first and not Rule(9).first
        assert second(5) == 0


    def test_third() -> None:
        assert third(8) and LAST
    """
)


@pytest.mark.process
def test_survivors_are_the_mutants_that_no_test_notices(project: Path, tmp_path: Path) -> None:
    runner = Runner(project, tmp_path, ["tests/test_rule.py"], jobs=2)
    found = {}
    for result in runner.run(mutants_of("consumers/rule.py", RULE)):
        found[result.mutated.after] = result.outcome

    assert found == {
        "LIMIT = 9": Outcome.KILLED,
        "LIMIT = 7": Outcome.KILLED,
        "return 3": Outcome.SURVIVED,
        "return 1": Outcome.SURVIVED,
        "return self <= 3": Outcome.SURVIVED,
        "return self >= 3": Outcome.KILLED,
        "return self < 4": Outcome.SURVIVED,
        "return self < 2": Outcome.SURVIVED,
        "def second(n: int, step: int=6) -> int:": Outcome.SURVIVED,
        "def second(n: int, step: int=4) -> int:": Outcome.SURVIVED,
        "while n >= 0:": Outcome.KILLED,
        "while n <= 0:": Outcome.KILLED,
        "while n > 1:": Outcome.KILLED,
        "while n > -1:": Outcome.KILLED,
        "pass": Outcome.TIMEOUT,
        "n -= 2": Outcome.KILLED,
        "n -= 0": Outcome.TIMEOUT,
        "return n != LIMIT": Outcome.KILLED,
    }


@pytest.mark.process
def test_tests_that_fail_by_themselves_are_reported(project: Path, tmp_path: Path) -> None:
    (project / "consumers" / "rule.py").write_text(RULE.replace("< 3", "< 0"))

    with pytest.raises(BaselineFails):
        list(Runner(project, tmp_path, ["tests/test_rule.py"], jobs=1).run([]))


def test_a_path_outside_of_the_folds_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["consumers/engine"])

    assert ended.value.code == 2
    assert "consumers/engine: not in consumers/calls or consumers/agents" in capsys.readouterr().err
