"""The credentials file."""

import os
import re
import stat
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.auth.authenticate import authenticate
from bridge.auth.credentials import read
from bridge.auth.manage import NewSecret, SecretInfo, create, list_all, revoke, rotate
from bridge.auth.store import CredentialStore
from voipex.errors import CredentialsInvalid, Unauthorized
from voipex.webhook import parse

NOW_US = 1_772_438_400_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "credentials.json"


def issue(path: Path, name: str = "site-7", **changes: Any) -> NewSecret:
    return create(path, name, **{"pbx": "voipex", "pbxs": ["voipex", "brno"], "now_us": NOW_US, **changes})


def store_of(path: Path) -> CredentialStore:
    return CredentialStore(path, ["voipex", "brno"])


def lets_in(store: CredentialStore, issued: NewSecret) -> bool:
    header = b"Basic " + b64encode(f"{issued.name}:{issued.secret}".encode())
    try:
        return authenticate(header, store.credentials, 0.0).name == issued.name
    except Unauthorized:
        return False


# ---------------------------------------------------------------- create


def test_a_new_credential_authenticates_its_pbx(path: Path) -> None:
    issued = issue(path, "brno-1", pbx="brno", region="sk", key_names={"UniqueId": "hovor"})

    store = store_of(path)
    caller = store.credentials.principal("brno-1")
    assert lets_in(store, issued)
    assert caller is not None
    assert (caller.name, caller.pbx, caller.region) == ("brno-1", "brno", "SK")
    assert parse(b'{"EventName":"CDR","hovor":"1.2"}', caller.keys).fields["UniqueId"] == "1.2"


def test_generated_secrets_are_long_url_safe_and_unique(path: Path) -> None:
    secrets = [issue(path, f"site-{n}").secret for n in range(5)]

    assert len(set(secrets)) == 5
    assert all(re.fullmatch(r"vpx_[A-Za-z0-9_-]{32}", secret) for secret in secrets)


def test_the_file_has_only_digests_and_mode_0600(path: Path) -> None:
    issued = issue(path)

    content = path.read_text()
    assert issued.secret not in content
    assert "sha256$" in content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_changes_keep_version_and_signing_key(path: Path) -> None:
    issue(path)
    before = orjson.loads(path.read_bytes())
    issue(path, "other")
    rotate(path, "site-7", now_us=NOW_US)

    after = orjson.loads(path.read_bytes())
    assert before["version"] == after["version"] == 1
    assert before["signing_key"] == after["signing_key"]
    assert len(before["signing_key"]) == 43


def test_a_given_secret_is_used_unchanged(path: Path) -> None:
    issued = issue(path, secret="tajne-heslo-z-ustredny")

    assert issued.secret == "tajne-heslo-z-ustredny"
    assert lets_in(store_of(path), issued)


@pytest.mark.parametrize("secret", ["x" * 19, "", "heslo-s-háčky-a-čárkami", "two words are not one secret"])
def test_a_short_or_ambiguous_given_secret_is_rejected(path: Path, secret: str) -> None:
    with pytest.raises(CredentialsInvalid, match="a given secret"):
        issue(path, secret=secret)

    assert not path.exists()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "Site 7"}, "name: must be 1 to 64 of"),
        ({"name": ""}, "name: must be 1 to 64 of"),
        ({"name": "x" * 65}, "name: must be 1 to 64 of"),
        ({"name": "site-7\n"}, "name: must be 1 to 64 of"),
        ({"pbx": "praha"}, r"'praha', which is not in VOIPEX_PBXS \(voipex, brno\)"),
        ({"region": "XX"}, "region: not a region"),
        ({"key_names": {"Uniqueid": "x"}}, "'Uniqueid' is not a documented name"),
        ({"key_names": {"From": "x", "To": "x"}}, "the key 'x' cannot mean From and To at once"),
        ({"key_names": {"From": " "}}, "the key for From is blank"),
    ],
)
def test_an_invalid_credential_is_rejected_and_not_written(
    path: Path, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(CredentialsInvalid, match=complaint):
        issue(path, **changes)

    assert not path.exists()


def test_a_credential_name_is_unique(path: Path) -> None:
    first = issue(path)

    with pytest.raises(CredentialsInvalid, match="rotate site-7"):
        issue(path)

    assert lets_in(store_of(path), first)


def test_a_missing_folder_is_created(tmp_path: Path) -> None:
    issued = issue(tmp_path / "etc" / "voipex" / "credentials.json")

    assert lets_in(store_of(tmp_path / "etc" / "voipex" / "credentials.json"), issued)


def test_a_new_secret_is_hidden_in_repr(path: Path) -> None:
    issued = issue(path)

    assert issued.secret not in repr(issued)
    assert issued.secret not in str(issued)


# ---------------------------------------------------------------- list, rotate, revoke


def test_the_list_shows_everything_but_secrets(path: Path) -> None:
    issued = issue(path, key_names={"Login": "user"})

    (shown,) = list_all(path)
    assert (shown.name, shown.pbx, shown.region, shown.key_names) == (
        "site-7",
        "voipex",
        "CZ",
        {"Login": "user"},
    )
    assert shown.secrets == (SecretInfo(issued.secret_id, "2026-03-02T08:00:00.000000Z"),)
    assert "sha256" not in repr(shown)


def test_rotation_keeps_old_and_new_secret_valid(path: Path) -> None:
    old = issue(path)
    new = rotate(path, "site-7", now_us=NOW_US + 1)

    store = store_of(path)
    assert (lets_in(store, old), lets_in(store, new)) == (True, True)
    assert (new.pbx, new.dropped) == ("voipex", ())


def test_a_second_rotation_drops_the_oldest_secret(path: Path) -> None:
    oldest = issue(path)
    old = rotate(path, "site-7", now_us=NOW_US + 1)
    new = rotate(path, "site-7", now_us=NOW_US + 2, secret="tajne-heslo-z-ustredny")

    store = store_of(path)
    assert [lets_in(store, each) for each in (oldest, old, new)] == [False, True, True]
    assert new.dropped == (oldest.secret_id,)


def test_revoking_the_older_secret_ends_a_rotation(path: Path) -> None:
    old = issue(path)
    new = rotate(path, "site-7", now_us=NOW_US)

    revoked = revoke(path, "site-7", old=True)

    store = store_of(path)
    assert (lets_in(store, old), lets_in(store, new)) == (False, True)
    assert (revoked.dropped, revoked.whole) == ((old.secret_id,), False)


def test_the_only_secret_cannot_be_revoked_as_old(path: Path) -> None:
    issued = issue(path)

    with pytest.raises(CredentialsInvalid, match="only one secret"):
        revoke(path, "site-7", old=True)

    assert lets_in(store_of(path), issued)


def test_revoking_a_credential_leaves_the_others_alone(path: Path) -> None:
    gone, stays = issue(path), issue(path, "other")

    revoked = revoke(path, "site-7")

    store = store_of(path)
    assert (lets_in(store, gone), lets_in(store, stays)) == (False, True)
    assert (revoked.dropped, revoked.whole) == ((gone.secret_id,), True)


@pytest.mark.parametrize("change", [lambda p: rotate(p, "nobody", now_us=0), lambda p: revoke(p, "nobody")])
def test_an_unknown_credential_cannot_be_changed(path: Path, change: Any) -> None:
    with pytest.raises(CredentialsInvalid, match="does not exist"):
        change(path)
    issue(path)

    with pytest.raises(CredentialsInvalid, match="no credential 'nobody'; the file has: site-7"):
        change(path)


def test_concurrent_writers_lose_nothing(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        issued = list(pool.map(lambda n: issue(path, f"site-{n}"), range(24)))

    store = store_of(path)
    assert all(lets_in(store, each) for each in issued)
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "credentials.json",
        "credentials.json.lock",
    ]


def test_a_failed_write_leaves_the_file_unchanged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    issued = issue(path)
    before = path.read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CredentialsInvalid, match="cannot be written: No space left"):
        rotate(path, "site-7", now_us=NOW_US)

    assert path.read_bytes() == before
    assert lets_in(store_of(path), issued)
    assert not list(path.parent.glob(".*.new"))


def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file")

    with pytest.raises(CredentialsInvalid, match="etc: File exists"):
        issue(tmp_path / "etc" / "credentials.json")


def test_writing_through_a_symbolic_link_keeps_it(path: Path, tmp_path: Path) -> None:
    real = tmp_path / "real.json"
    issue(real)
    path.symlink_to(real)

    issued = issue(path, "other")

    assert path.is_symlink()
    assert lets_in(store_of(real), issued)


# ---------------------------------------------------------------- faults in the file


def faulty(path: Path, **changes: Any) -> str:
    """Change the only credential of a valid file (keys in capitals: the file), and return the error message."""
    issue(path)
    document = orjson.loads(path.read_bytes())
    document.update({key.lower(): value for key, value in changes.items() if key.isupper()})
    of_credential = {key: value for key, value in changes.items() if not key.isupper()}
    if of_credential:
        document["credentials"][0].update(of_credential)
    path.write_bytes(orjson.dumps(document))
    with pytest.raises(CredentialsInvalid) as caught:
        store_of(path)
    return str(caught.value)


GOOD_SECRET = {"id": "a", "digest": "sha256$" + "0" * 64, "created_at": "2026-03-02T08:00:00Z"}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"VERSION": 2}, "version: Input should be 1"),
        ({"SIGNING_KEY": "short"}, "signing_key: must be at least 32 random bytes as base64url"),
        ({"COLOUR": "red"}, "colour: Extra inputs are not permitted"),
        ({"CREDENTIALS": [7]}, "credential number 1: Input should be"),
        (
            {"pbx": "praha"},
            "credential 'site-7' is of PBX 'praha', which is not in VOIPEX_PBXS (voipex, brno)",
        ),
        ({"name": "Site 7"}, "credential 'Site 7', name: must be 1 to 64 of"),
        ({"region": "XX"}, "credential 'site-7', region: not a region"),
        ({"regoin": "CZ"}, "credential 'site-7', regoin: Extra inputs"),
        ({"key_names": {"Form": "x"}}, "credential 'site-7', key_names: 'Form' is not a documented name"),
        ({"key_names": {"From": "x", "To": "x"}}, "the key 'x' cannot mean From and To at once"),
        ({"secrets": []}, "credential 'site-7', secrets: Tuple should have at least 1 item"),
        ({"secrets": [GOOD_SECRET] * 3}, "credential 'site-7', secrets: Tuple should have at most 2 items"),
        ({"secrets": [{**GOOD_SECRET, "digest": "hunter2hunter2"}]}, "secrets.0.digest: must be `sha256$`"),
        (
            {"secrets": [{**GOOD_SECRET, "created_at": "hunter2"}]},
            "secrets.0.created_at: not a timestamp such as",
        ),
    ],
)
def test_a_fault_in_the_file_is_reported_with_its_place(
    path: Path, changes: dict[str, Any], complaint: str
) -> None:
    message = faulty(path, **changes)

    assert complaint in message
    assert str(path) in message
    assert "hunter2" not in message


def test_all_faults_are_reported_at_once(path: Path) -> None:
    message = faulty(path, VERSION=7, region="XX", key_names={"Form": "x"})

    assert [word in message for word in ("version", "region", "'Form'")] == [True] * 3


def test_a_repeated_name_is_a_fault(path: Path) -> None:
    issue(path)
    document = orjson.loads(path.read_bytes())
    path.write_bytes(orjson.dumps({**document, "credentials": document["credentials"] * 2}))

    with pytest.raises(CredentialsInvalid, match="'site-7' is listed twice"):
        store_of(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"", "is not JSON"), (b'{"version": 1,', "line 1"), (b"[]", "the file: Input should be")],
)
def test_a_file_of_another_kind_is_rejected(path: Path, content: bytes, complaint: str) -> None:
    path.write_bytes(content)

    with pytest.raises(CredentialsInvalid, match=complaint):
        store_of(path)


def test_a_missing_file_is_reported_with_the_command(path: Path) -> None:
    with pytest.raises(CredentialsInvalid, match="voipex-bridge credentials create"):
        store_of(path)


def test_a_folder_in_its_place_is_rejected(path: Path) -> None:
    path.mkdir()

    with pytest.raises(CredentialsInvalid, match="cannot be read: Is a directory"):
        store_of(path)


def test_digests_and_signing_key_are_hidden_in_repr(path: Path) -> None:
    issue(path)
    document = orjson.loads(path.read_bytes())

    shown = repr(read(path))
    assert document["signing_key"] not in shown
    assert "sha256$" not in shown


@pytest.mark.parametrize(("mode", "reader"), [(0o600, "owner"), (0o440, "group"), (0o644, "everyone")])
def test_other_readers_of_the_file_are_reported(path: Path, mode: int, reader: str) -> None:
    """Kubernetes mounts secrets 0440 or 0644; so the bridge warns and does not refuse."""
    issue(path)
    path.chmod(mode)

    assert store_of(path).readable_by == reader


# ---------------------------------------------------------------- while the bridge runs


def test_an_unchanged_file_is_not_reloaded(path: Path) -> None:
    issue(path)
    store = store_of(path)
    before = store.credentials

    assert store.reload_if_changed() is None
    assert store.credentials is before


def test_a_changed_file_is_reloaded(path: Path) -> None:
    old = issue(path)
    store = store_of(path)
    new = issue(path, "other")
    revoke(path, "site-7")

    reload = store.reload_if_changed()

    assert reload is not None
    assert (reload.names, reload.fault) == (("other",), None)
    assert (lets_in(store, old), lets_in(store, new)) == (False, True)
    assert store.reload_if_changed() is None


def test_a_file_edited_in_place_is_reloaded(path: Path) -> None:
    issue(path)
    store = store_of(path)
    document = orjson.loads(path.read_bytes())
    document["credentials"][0]["region"] = "SK"
    path.write_bytes(orjson.dumps(document))

    assert store.reload_if_changed() is not None
    assert [caller.region for caller in store.credentials.principals()] == ["SK"]


def test_a_swapped_symbolic_link_is_reloaded(tmp_path: Path, path: Path) -> None:
    """Kubernetes replaces the folder behind a link; the path and its own inode stay the same."""
    for version in ("..v1", "..v2"):
        (tmp_path / version).mkdir()
        issued = issue(tmp_path / version / "credentials.json", f"of{version}")
    now = tmp_path / "..data"
    now.symlink_to("..v1")
    path.symlink_to(now / "credentials.json")
    store = store_of(path)

    (tmp_path / "..new").symlink_to("..v2")
    (tmp_path / "..new").replace(now)

    assert store.reload_if_changed() is not None
    assert lets_in(store, issued)


def test_a_broken_file_keeps_credentials_and_is_reported_once(path: Path) -> None:
    issued = issue(path)
    store = store_of(path)
    good = path.read_bytes()
    path.write_bytes(b'{"version": 1')

    reload = store.reload_if_changed()

    assert reload is not None
    assert reload.names == ("site-7",)
    assert "is not JSON" in str(reload.fault)
    assert lets_in(store, issued)
    assert store.reload_if_changed() is None

    path.write_bytes(good)
    mended = store.reload_if_changed()
    assert mended is not None
    assert mended.fault is None


def test_a_removed_file_keeps_credentials_and_is_reported_once(path: Path) -> None:
    issued = issue(path)
    store = store_of(path)
    path.unlink()

    reload = store.reload_if_changed()

    assert reload is not None
    assert "does not exist" in str(reload.fault)
    assert lets_in(store, issued)
    assert store.reload_if_changed() is None


def test_a_credential_of_an_unknown_pbx_is_not_reloaded(path: Path) -> None:
    issued = issue(path)
    store = store_of(path)
    create(path, "praha-1", "praha", pbxs=["praha"], now_us=NOW_US)

    reload = store.reload_if_changed()

    assert reload is not None
    assert "VOIPEX_PBXS" in str(reload.fault)
    assert lets_in(store, issued)


def test_reload_reads_an_unchanged_file(path: Path) -> None:
    issue(path)
    store = store_of(path)
    before = store.credentials

    assert store.reload().fault is None
    assert store.credentials is not before


def test_revoking_the_last_credential_locks_everyone_out(path: Path) -> None:
    issued = issue(path)
    store = store_of(path)
    revoke(path, "site-7")
    store.reload()

    assert not lets_in(store, issued)
    assert len(store_of(path).credentials) == 0
