"""Links between calls (rule 13): a fold sees one call, so each is a conversation of its own. A later capability starts here."""

from typing import Any


def links_of(call_id: str) -> dict[str, Any]:
    """The fields of a timeline that name other calls. Calls are never merged."""
    return {"conversation_id": call_id, "call_ids": (call_id,), "links": ()}
