"""Compare the documents of the folds with the truth of a simulated company. The same seed gives the same figures."""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import orjson

from tools.accuracy.company import BUSY, QUIET
from tools.accuracy.deliveries import DELIVERIES
from tools.accuracy.judge import Mistake, Verdict, judge_day
from tools.accuracy.report import markdown, replace_tables, to_json
from tools.accuracy.scores import Scores
from tools.accuracy.situations import SITUATIONS
from voipex.timestamps import format_rfc3339

_RESULTS: Final = Path("benchmarks/results/accuracy.json")
_PAGE: Final = Path("docs/accuracy.md")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    scores: dict[str, Scores] = {}
    quiet: dict[str, Scores] = {}
    for delivery in options.delivery or DELIVERIES:
        scores[delivery] = _judge_days(options, delivery, BUSY)
        quiet[delivery] = _judge_days(options, delivery, QUIET)
    tables = markdown(scores, quiet)
    print(tables)  # noqa: T201
    if options.write:
        settings = {"days": options.days, "seed": options.seed}
        results = to_json(scores, quiet, settings)
        _RESULTS.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2) + b"\n")
        _PAGE.write_text(replace_tables(_PAGE.read_text(), tables))
    return 0


def _judge_days(options: argparse.Namespace, delivery: str, plays: int) -> Scores:
    """Judge as many calls of quiet days as of busy ones."""
    scores = Scores()
    with ProcessPoolExecutor(options.jobs) as pool:
        judge = partial(_judge, options.seed, delivery, tuple(options.situations), plays)
        for verdict in pool.map(judge, range(options.days * BUSY // plays)):
            scores.merge(verdict.scores)
            _print_mistakes(verdict.mistakes[: options.mistakes], delivery)
    return scores


def _judge(seed: int, delivery: str, situations: Sequence[str], plays: int, day: int) -> Verdict:
    return judge_day(seed, day, delivery, situations, plays)


def _print_mistakes(mistakes: Sequence[Mistake], delivery: str) -> None:
    for each in mistakes:
        where = f"{delivery}: {each.kind} {each.situation} {each.subject} as of {format_rfc3339(each.at_us)}"
        print(f"{where}: {', '.join(each.wrong_fields)} {each.quality}", file=sys.stderr)  # noqa: T201


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.accuracy", description=__doc__)
    parser.add_argument("--days", type=int, default=30, help="simulated working days (default: 30)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--situations", nargs="*", default=(), choices=SITUATIONS, metavar="NAME", help="only these"
    )
    parser.add_argument(
        "--delivery", action="append", choices=DELIVERIES, help="only this one; may be repeated"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--mistakes", type=int, default=0, help="name so many wrong documents of each day")
    parser.add_argument("--write", action="store_true", help=f"write {_RESULTS} and the tables of {_PAGE}")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
