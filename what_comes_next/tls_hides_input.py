#!/usr/bin/env python3
"""Input that has arrived, and of which select() says nothing: TLS decrypts whole records.

There is no certificate here, so neither end knows who the other one is. Only an experiment may do
without.
"""

import select
import socket
import ssl
import threading


def without_certificate(side: int) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AECDH:@SECLEVEL=0")
    return context


def say_two_lines(plain: socket.socket) -> None:
    server = without_certificate(ssl.PROTOCOL_TLS_SERVER)
    with server.wrap_socket(plain, server_side=True) as connection:
        connection.sendall(b"first\nsecond\n")
        # The other end closes when it has seen enough.
        connection.recv(1)


def main() -> None:
    ours, theirs = socket.socketpair()
    other = threading.Thread(target=say_two_lines, args=[theirs], daemon=True)
    other.start()
    client = without_certificate(ssl.PROTOCOL_TLS_CLIENT)
    with client.wrap_socket(ours, suppress_ragged_eofs=True) as connection:
        print(f"recv(6): {connection.recv(6)}")
        readable, _, _ = select.select([connection], [], [], 0.5)
        print(f"select() says: {'readable' if readable else 'nothing to read'}")
        print(f"pending() says: {connection.pending()} bytes")
        print(f"recv(7): {connection.recv(7)}")
    other.join()


if __name__ == "__main__":
    main()
