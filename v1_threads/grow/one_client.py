"""Step 1: one client is let in and answered, once."""

import socket

listener = socket.create_server(("127.0.0.1", 8001))
print("listening on 127.0.0.1:8001", flush=True)

connection, address = listener.accept()
connection.sendall(b"* hello\n")
data = connection.recv(1024)
connection.sendall(b"you: " + data)
connection.close()
