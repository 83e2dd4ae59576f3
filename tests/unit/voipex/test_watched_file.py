"""Files that are replaced while a service runs."""

import os
from pathlib import Path

from voipex.service.watched_file import WatchedFiles


def test_each_change_of_a_file_is_reported_once(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("a")
    files = WatchedFiles(one, other)

    assert not files.changed()
    other.write_text("b")
    assert files.changed()
    assert not files.changed()
    other.unlink()
    assert files.changed()
    assert not files.changed()


def test_a_replaced_target_of_a_link_is_a_change(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).write_text("same")
    link = tmp_path / "link"
    link.symlink_to("old")
    files = WatchedFiles(link)
    (tmp_path / "next").symlink_to("new")

    os.replace(tmp_path / "next", link)  # noqa: PTH105 - as Kubernetes does it

    assert files.changed()
