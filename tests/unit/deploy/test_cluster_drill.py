"""The drill of `make cluster` runs every kubectl command of the page, which only a cluster can judge."""

import ast

from tests.cluster import __main__ as drill


def test_the_drill_has_every_kubectl_command_of_the_page() -> None:
    commands = drill.commands(drill.PAGE.read_text(encoding="utf-8"))
    source = ast.parse((drill.ROOT / "tests/cluster/__main__.py").read_text(encoding="utf-8"))
    constants = {each.value for each in ast.walk(source) if isinstance(each, ast.Constant)}

    assert len(commands) > 10
    assert [command for command in commands if command not in constants] == []


def test_commands_of_blocks_and_of_sentences_are_found() -> None:
    page = "Run `kubectl -n voipex get\n pods`, `kubectl scale`.\n\n  ```sh\n  kubectl apply -f x\n  curl x\n  ```\n"

    assert drill.commands(page) == ["kubectl apply -f x", "kubectl -n voipex get pods"]
