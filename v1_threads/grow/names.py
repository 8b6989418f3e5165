"""Step 5: a name for each client, and no name twice."""

import socket
import threading

registry = threading.Lock()
members = {}


def serve_client(connection):
    connection.sendall(b"* enter your name\n")
    name = ""
    rest = b""
    while data := connection.recv(1024):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if name:
                connection.sendall(name.encode() + b": " + line + b"\n")
            elif take_name(line.decode(), connection):
                name = line.decode()
                connection.sendall(b"* hello " + line + b"\n")
            else:
                connection.sendall(b"! name " + line + b" is taken\n")
    members.pop(name, None)
    connection.close()


def take_name(name, connection):
    with registry:
        if name in members:
            return False
        members[name] = connection
        return True


listener = socket.create_server(("127.0.0.1", 8001))
print("listening on 127.0.0.1:8001", flush=True)

while True:
    connection, address = listener.accept()
    threading.Thread(target=serve_client, args=[connection], daemon=True).start()
