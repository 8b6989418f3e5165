"""Step 2: clients without end, one after the other."""

import socket

listener = socket.create_server(("127.0.0.1", 8001))
print("listening on 127.0.0.1:8001", flush=True)

while True:
    connection, address = listener.accept()
    connection.sendall(b"* hello\n")
    while data := connection.recv(1024):
        connection.sendall(b"you: " + data)
    connection.close()
