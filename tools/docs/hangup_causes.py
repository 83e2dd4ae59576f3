"""docs/hangup-causes.md: every text of a hangup reason that Asterisk prints, and its class."""

from voipex.hangup_causes import CAUSES, NETWORK_TERMS


def hangup_causes_page() -> str:
    """Return the page: the table of `voipex/hangup_causes.py`."""
    terms = [f"`{term}`" for term in NETWORK_TERMS]
    lines = [
        "# Hangup causes",
        "",
        "Generated from `voipex/hangup_causes.py` by `make contract`.",
        "",
        "`Reason` of a Hangup is one of Asterisk's texts. `reason_class` is its class; upper or lower case and surplus spaces do not matter. What a",
        "class does to a call is in the [rules of the call fold](call-rules.md), what it means in the [event](contract/event.md#reasonclass).",
        "",
        f"A text that is not listed is `failed_network` if it contains {', '.join(terms[:-1])} or {terms[-1]}, else `other`. Asterisk prints `Unknown`",
        "for every cause from 0 to 127 that is not listed. A reason of class `other` is noted as `unknown_reason` in the timeline.",
        "",
        "| cause | text | `reason_class` |",
        "|---|---|---|",
    ]
    lines += [
        f"| {'' if cause.code is None else cause.code} | {cause.text} | `{cause.reason_class}` |"
        for cause in CAUSES
    ]
    return "\n".join(lines) + "\n"
