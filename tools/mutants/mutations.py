"""Mutants of a module (pure): each differs from the source in one comparison, operator, number, condition or statement."""

import ast
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

_FLIPPED: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}

_SHOWN: Final = 90
"""Characters of a line of source in the table."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """
    function: with the class, as `Call.close`; empty at module level. body_line: where the outermost function begins whose body has the
    change; 0 outside of all bodies, as of a constant or a default. number: of the node in the tree. variant: of its replacements.
    """

    path: str
    line: int
    function: str
    body_line: int
    kind: str
    number: int
    variant: int

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"

    def applied(self, source: str) -> "Mutated":
        """Make the change in the module's source."""
        tree = ast.parse(source)
        before = ast.unparse(tree)
        node = next(each for number, each in enumerate(ast.walk(tree)) if number == self.number)
        _, replacement = list(_replacements(node))[self.variant]
        _replace(tree, node, replacement)
        after = ast.unparse(ast.fix_missing_locations(tree))
        return Mutated(tree, *_first_difference(before, after))


@dataclass(frozen=True, slots=True)
class Mutated:
    """The tree of a mutant, with the line numbers of its source, and the line that differs."""

    tree: ast.Module
    before: str
    after: str


def mutants_of(path: str, source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module."""
    tree = ast.parse(source)
    functions = _functions(tree)
    for number, node in enumerate(ast.walk(tree)):
        function = functions.get(node)
        if isinstance(node, ast.expr | ast.stmt) and function is not None:
            for variant, (kind, _) in enumerate(_replacements(node)):
                yield Mutant(path, node.lineno, function.name, function.body_line, kind, number, variant)


def sample(mutants: Sequence[Mutant], number: int, seed: int) -> list[Mutant]:
    """Choose *number* of them at random, spread evenly over the functions."""
    chance = random.Random(seed)  # noqa: S311  # a choice of tests
    by_function: dict[tuple[str, str], list[Mutant]] = defaultdict(list)
    for each in mutants:
        by_function[each.path, each.function].append(each)
    for own in by_function.values():
        chance.shuffle(own)
    chosen: list[Mutant] = []
    while len(chosen) < min(number, len(mutants)):
        waiting = [own for own in by_function.values() if own]
        chance.shuffle(waiting)
        chosen += [own.pop() for own in waiting[: number - len(chosen)]]
    return sorted(chosen, key=lambda each: (each.path, each.line, each.kind))


class _Function(NamedTuple):
    name: str
    body_line: int


def _functions(tree: ast.Module) -> dict[ast.AST, _Function | None]:
    """The function of each node; None: nothing to mutate there, such as an annotation, a decorator, a docstring or an error."""
    found: dict[ast.AST, _Function | None] = {}

    def visit(node: ast.AST, function: _Function | None) -> None:
        body_line = 0
        if function is not None and isinstance(node, ast.FunctionDef | ast.ClassDef):
            name = f"{function.name}.{node.name}".lstrip(".")
            function = _Function(name, function.body_line)
            if isinstance(node, ast.FunctionDef):
                lines = [node.lineno, *(each.lineno for each in node.decorator_list)]
                body_line = function.body_line or min(lines)
        if _is_left_alone(node):
            function = None
        found[node] = function
        for child in ast.iter_child_nodes(node):
            is_left_out = child in (
                getattr(node, "annotation", None),
                getattr(node, "returns", None),
                *getattr(node, "decorator_list", ()),
            )
            inside = function
            if function is not None and body_line and isinstance(child, ast.stmt):
                inside = _Function(function.name, body_line)
            visit(child, None if is_left_out else inside)

    visit(tree, _Function("", 0))
    return found


def _is_left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Raise | ast.arg):
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _replacements(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield what the node may become, with the kind of the change."""
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in _FLIPPED[type(operator)]:
                operators = [*node.ops[:place], other(), *node.ops[place + 1 :]]
                yield "comparison", ast.Compare(node.left, operators, node.comparators)
    elif isinstance(node, ast.BoolOp):
        yield "and/or", ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not dropped", node.operand
    elif isinstance(node, ast.Constant):
        yield from _other_constants(node)
    elif isinstance(node, ast.If):
        yield "branch removed", ast.If(ast.Constant(value=False), node.body, node.orelse)
    elif _can_be_removed(node):
        yield "statement removed", ast.Pass()


def _other_constants(node: ast.Constant) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node.value, bool):
        yield "constant", ast.Constant(not node.value)
    elif isinstance(node.value, int):
        yield from (("constant", ast.Constant(node.value + step)) for step in (1, -1))


def _can_be_removed(node: ast.AST) -> bool:
    """Without the assignment of a name a function fails, which says nothing of the tests."""
    if isinstance(node, ast.Assign):
        return not all(isinstance(each, ast.Name) for each in node.targets)
    return isinstance(node, ast.Expr | ast.AugAssign | ast.Continue | ast.Delete)


def _replace(tree: ast.AST, target: ast.AST, replacement: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is target:
                setattr(parent, name, replacement)
                return
            if isinstance(value, list):
                for place, each in enumerate(value):
                    if each is target:
                        value[place] = replacement
                        return
    raise AssertionError("a node of the tree has a parent")


def _first_difference(before: str, after: str) -> tuple[str, str]:
    """The first line that differs."""
    for one, other in zip(before.splitlines(), after.splitlines(), strict=False):
        if one != other:
            return _around(one.strip(), other.strip())
    return "", ""


def _around(one: str, other: str) -> tuple[str, str]:
    """Cut two lines to what can be shown, around the place where they begin to differ."""
    same = next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    first = max(0, same - _SHOWN // 2)
    return one[first : first + _SHOWN], other[first : first + _SHOWN]
