#!/usr/bin/env python3
"""What epoll() does that select() does not; and what edge-triggered means. Linux only."""

import contextlib
import fcntl
import select
import socket
import sys


def main() -> None:
    if not hasattr(select, "epoll"):
        sys.exit("epoll_by_hand: this system has no epoll; macOS and BSD have select.kqueue()")
    import resource

    # A descriptor above 1023 must be allowed before there can be one.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    server, client = socket.socketpair()
    high = fcntl.fcntl(server, fcntl.F_DUPFD, 2000)
    with server, client, contextlib.closing(socket.socket(fileno=high)):
        client.sendall(b"first\nsecond\n")
        try:
            select.select([high], [], [], 1)
        except ValueError as error:
            print(f"select() on descriptor {high}: {error}")
        with select.epoll() as level:
            level.register(high, select.EPOLLIN)
            print(f"epoll on descriptor {high}: {len(level.poll(1))} event")
        with select.epoll() as edge:
            edge.register(high, select.EPOLLIN | select.EPOLLET)
            print(f"edge-triggered: {len(edge.poll(1))} event; we read {server.recv(6)}")
            print(f"7 bytes are left, and it says: {len(edge.poll(0.2))} events")


if __name__ == "__main__":
    main()
