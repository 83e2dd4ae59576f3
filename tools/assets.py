"""
Renew the third-party files of the board's pages from npm: `make assets` (needs npm).

`consumers/board/static/vendor/LIST.json` names package, version, licence, file and SHA-256 of each; `check` compares the files with it and
needs no network. A bare import of another package is rewritten to the file beside it: an import map would be an inline script, which the
pages' content security policy forbids.
"""

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

VENDOR: Final = Path("consumers/board/static/vendor")
LIST: Final = VENDOR / "LIST.json"


def main(arguments: list[str]) -> int:
    """`check` or `renew`. Returns the exit code."""
    entries = json.loads(LIST.read_text())
    if arguments == ["renew"]:
        with tempfile.TemporaryDirectory() as folder:
            for entry in entries:
                content = rewritten(fetched(entry, Path(folder)))
                (VENDOR / entry["file"]).write_bytes(content)
                entry["sha256"] = hashlib.sha256(content).hexdigest()
        LIST.write_text(json.dumps(entries, indent=2) + "\n")
        return 0
    faults = [*differences(entries)]
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    return 1 if faults else 0


def differences(entries: list[dict[str, str]]) -> list[str]:
    """Name the files that differ from the list, and those that are not in it."""
    listed = {entry["file"]: entry["sha256"] for entry in entries}
    present = {path.name: path for path in VENDOR.iterdir() if path != LIST}
    faults = [f"{VENDOR / name} is not in {LIST}" for name in sorted(present.keys() - listed.keys())]
    for name, digest in listed.items():
        if name not in present:
            faults.append(f"{VENDOR / name} is missing: make assets")
        elif hashlib.sha256(present[name].read_bytes()).hexdigest() != digest:
            faults.append(f"{VENDOR / name} is not the file of {LIST}: make assets")
    return faults


def fetched(entry: dict[str, str], folder: Path) -> bytes:
    """Return a file of a package, by the registry that npm is set up with."""
    done = subprocess.run(  # noqa: S603 - names and versions of the list
        ["npm", "pack", "--silent", f"{entry['package']}@{entry['version']}"],  # noqa: S607
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    with tarfile.open(folder / done.stdout.strip().splitlines()[-1]) as archive:
        member = archive.extractfile(f"package/{entry['path']}")
        if member is None:
            raise FileNotFoundError(entry["path"])
        return member.read()


def rewritten(content: bytes) -> bytes:
    """`from"preact"` -> `from"./preact.mjs"`; the source map, which is not shipped, is no longer named."""
    text = content.decode().replace('from"preact"', 'from"./preact.mjs"')
    lines = [line for line in text.splitlines() if not line.startswith("//# sourceMappingURL")]
    return ("\n".join(lines) + "\n").encode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
