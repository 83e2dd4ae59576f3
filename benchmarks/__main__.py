"""`make bench`: run every benchmark, keep the JSON in benchmarks/results/, and write docs/benchmarks.md from it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import described

_HERE = Path(__file__).parent
_RESULTS = _HERE / "results"
_PAGE = _HERE.parent / "docs" / "benchmarks.md"
_OF_THE_MACHINE = ("cores", "memory_gib")
_BENCHES = ("ingress", "latency", "backlog", "spool", "folds_calls", "folds_agents", "consumers", "pipeline")

_INGRESS = """\
`echo`: a bare ASGI application that reads the body. `plain`: FastAPI and `send_and_wait`, no spool. `bridge`: everything on (auth,
normalization, spool with fdatasync, publishing to a real broker at the same time, metrics). The server has one core, load (`wrk`) and
Kafka have the other."""


def main() -> None:
    _RESULTS.mkdir(exist_ok=True)
    for name in sys.argv[1:] or _BENCHES:
        print(f"bench_{name} …", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.bench_{name}", "--json"],
            check=False,
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode != 0:
            sys.exit(f"bench_{name} failed")
        found = json.loads(done.stdout)
        result = {**described(), **found.pop("machine", {}), **found}
        (_RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    _PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {_PAGE.relative_to(Path.cwd())}")


def page() -> str:
    """docs/benchmarks.md, from the results that are there."""
    parts = [
        "# Benchmarks\n",
        "Made by `make bench` (needs `wrk`); the JSON behind each table lies in benchmarks/results/.\n",
    ]
    for name, render in _RENDERERS.items():
        path = _RESULTS / f"{name}.json"
        if path.exists():
            parts.append(render(json.loads(path.read_text(encoding="utf-8"))))
    return "\n".join(parts)


def _machine(result: dict[str, Any]) -> str:
    versions = result.get("versions", {})
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"Measured {result.get('date')} on {result.get('cores')} cores of {result.get('cpu')}, Python {result.get('python')}; {named}.\n"


def _ingress(result: dict[str, Any]) -> str:
    lines = [
        "## The front door",
        "",
        _INGRESS,
        f"Medians of {result['rounds']} rounds of {result['seconds']} s, in turn, each server after a second of warming up.",
        "",
        "| case | connections | answers/s | of echo | p50 ms | p99 ms | not 2xx |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['case']} | {row['connections']} | {row['requests_per_s']:,} | {row['of_echo']:.2f} | {row['p50_ms']:.2f} | "
        f"{row['p99_ms']:.2f} | {row['not_2xx']} |"
        for row in result["cases"]
    ]
    return "\n".join([*lines, "", _machine(result)])


def _any(title: str) -> Callable[[dict[str, Any]], str]:
    """A result whose figures stand in a list of rows (`cases`), or as plain numbers."""

    def render(result: dict[str, Any]) -> str:
        rows = (
            result.get("cases")
            or result.get("runs")
            or [
                {
                    name: value
                    for name, value in result.items()
                    if isinstance(value, int | float) and name not in _OF_THE_MACHINE
                }
            ]
        )
        columns = list(dict.fromkeys(name for row in rows for name in row))
        lines = [f"## {title}", "", f"{result.get('what', '')}", "", "| " + " | ".join(columns) + " |"]
        lines.append("|" + "---|" * len(columns))
        lines += ["| " + " | ".join(_shown(row.get(name, "")) for name in columns) + " |" for row in rows]
        return "\n".join([*lines, "", _machine(result)])

    return render


def _spool(result: dict[str, Any]) -> str:
    disk, backlog, start, drain = (result[name] for name in ("disk", "backlog", "start", "drain"))
    told = (
        f"One write and fdatasync on this disk: p50 {disk['p50_ms']} ms, p99 {disk['p99_ms']} ms. With {backlog['records']:,} records "
        f"({backlog['bytes'] / 1e9:.1f} GB) in it: the first is taken {start['first_taken_s']} s after the start; drained at "
        f"{drain['per_s']:,} records/s, with {drain['peak_rss_mb']} MB of memory."
    )
    return _any("The spool alone")({**result, "what": told, "cases": result["append"]})


def _shown(value: object) -> str:
    return (
        f"{value:,.4g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


_RENDERERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "ingress": _ingress,
    "latency": _any("At 1,000 events per second"),
    "backlog": _any("A long outage, a restart, and memory"),
    "spool": _spool,
    "folds_calls": _any("The fold of calls"),
    "folds_agents": _any("The fold of agents"),
    "consumers": _any("The consumers, on a real broker"),
    "pipeline": _any("From the POST to the timeline"),
}


if __name__ == "__main__":
    main()
