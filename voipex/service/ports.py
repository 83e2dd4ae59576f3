"""Bind a TCP port, or find out why that is not possible."""

import socket


def bind(host: str, port: int) -> socket.socket:
    """
    Return a socket bound to *host* and *port*. Connections that ended a moment ago do not keep the port busy.

    Raises:
        OSError: the port is in use, or the address is not one of this host.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def bind_error(host: str, port: int) -> str | None:
    """Return why a service cannot bind *host* and *port*, or None if it can."""
    try:
        bind(host, port).close()
    except OSError as error:
        return error.strerror or str(error)
    return None
