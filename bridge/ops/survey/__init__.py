"""
`voipex-bridge survey`: what a PBX really sends, without personal data.

    sources.py     event topics or a recording -> a trace
    sender.py      counts of running bridges -> how the PBX uses HTTP, and whether it repeats what was refused
    observe.py     trace -> counts per event, field, call and agent
    between.py     counts that need several calls at once: one id per call or per leg, consultations
    findings.py    counts -> what deserves a look, and the answers to what the PBX's documentation leaves open
    report.py      all of it as JSON and Markdown
    anonymous.py   values -> kinds, names -> themselves only when they are nobody's
"""
