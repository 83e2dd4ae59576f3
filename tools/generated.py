"""Generated files, and parts of files, that are committed: write them, and find those that differ from what the code generates."""

from collections.abc import Mapping
from pathlib import Path


def drifted(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Return the names, relative to *folder*, of files that are missing or differ from their generated text."""
    return [
        name
        for name, text in files.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]


def write(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Write the files that drifted; return their names."""
    names = drifted(folder, files)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[name], encoding="utf-8", newline="\n")
    return names


def replace_part(page: str, command: str, part: str) -> str:
    """Return *page* with *part* between the comments that name *command*. Raises ValueError unless there is one such place."""
    begin, end = f"<!-- {command} writes from here -->", "<!-- to here -->"
    before, rest = page.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n\n{part}\n\n{end}{after}"
