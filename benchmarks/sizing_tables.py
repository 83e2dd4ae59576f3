"""The tables of docs/sizing.md: what was measured, and what follows from it for more PBXs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

SERVICES: Final = ("bridge", "timelines", "agents", "kafka")
_FIGURES: Final = ("rss_mib", "connections", "descriptors", "cpu_s_per_minute")
_CALCULATED: Final = (100, 300, 1000)

Case = Mapping[str, Mapping[str, float]]
"""The figures of each service."""


def sizing_tables(rows: Sequence[Mapping[str, Any]], minutes: float) -> str:
    """Draw the cases, and the lines through the first and the last of them. `rows`: one for each service of a case."""
    cases: dict[int, dict[int, dict[str, Mapping[str, float]]]] = {}
    for row in rows:
        of_partitions = cases.setdefault(row["partitions"], {})
        of_partitions.setdefault(row["pbxs"], {})[row["service"]] = row
    heads = ["PBXs", "partitions of a topic", *(_title(service) for service in SERVICES)]
    ready = {(row["pbxs"], row["partitions"]): row["all_ready_s"] for row in rows}
    return "\n\n".join(
        [
            f"Each cell: memory (RSS) in MiB; connections to Kafka; open files, these connections among them; CPU seconds per minute, over {minutes:g} min without traffic.",
            _table(heads, _measured(cases)),
            "From their start until all three services were ready, at the same time: "
            + ", ".join(
                f"{seconds:.0f} s ({pbxs} x {partitions})" for (pbxs, partitions), seconds in ready.items()
            )
            + ".",
            "**Calculated from this, not measured:** what each further PBX adds, and what more of them would need if it stays so.",
            _table(heads, _calculated(cases)),
        ]
    )


def _title(service: str) -> str:
    return "the one broker" if service == "kafka" else service


def _measured(cases: Mapping[int, Mapping[int, Case]]) -> Iterator[list[str]]:
    for partitions, by_pbxs in cases.items():
        for pbxs, case in by_pbxs.items():
            yield [str(pbxs), str(partitions), *(_cell(case[service]) for service in SERVICES)]


def _calculated(cases: Mapping[int, Mapping[int, Case]]) -> Iterator[list[str]]:
    for partitions, by_pbxs in cases.items():
        first, last = min(by_pbxs), max(by_pbxs)
        if first == last:
            continue
        slopes = {
            service: {
                name: (by_pbxs[last][service][name] - by_pbxs[first][service][name]) / (last - first)
                for name in _FIGURES
            }
            for service in SERVICES
        }
        yield ["each further", str(partitions), *(_cell(slopes[service], "+") for service in SERVICES)]
        for pbxs in _CALCULATED:
            yield [
                f"{pbxs:,}",
                str(partitions),
                *(
                    _cell(
                        {
                            name: by_pbxs[last][service][name] + slopes[service][name] * (pbxs - last)
                            for name in _FIGURES
                        }
                    )
                    for service in SERVICES
                ),
            ]


def _cell(figures: Mapping[str, float], sign: str = "") -> str:
    return "; ".join(_number(figures[name], sign) for name in _FIGURES)


def _number(value: float, sign: str) -> str:
    """Two digits behind the point for small numbers, none for large ones."""
    return f"{value:{sign},.0f}" if abs(value) >= 20 or value == int(value) else f"{value:{sign},.2f}"


def _table(heads: Sequence[str], rows: Iterator[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
