"""Step 4: lines out of bytes."""

import socket
import threading


def serve_client(connection):
    connection.sendall(b"* hello\n")
    rest = b""
    while data := connection.recv(1024):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            connection.sendall(b"you: " + line + b"\n")
    connection.close()


listener = socket.create_server(("127.0.0.1", 8001))
print("listening on 127.0.0.1:8001", flush=True)

while True:
    connection, address = listener.accept()
    threading.Thread(target=serve_client, args=[connection], daemon=True).start()
