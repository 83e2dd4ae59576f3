"""
`voipex-bridge doctor`: check everything the bridge needs, in the order it is needed, and name the remedy for each problem.

The doctor changes nothing: it writes no event and creates no topic, and the file that times the disk has no name. It can run at any time,
beside a running bridge too. A check that depends on a failed one is skipped, with the reason.

An error keeps the bridge from starting or from working. A warning is a problem that is not there yet.
"""
