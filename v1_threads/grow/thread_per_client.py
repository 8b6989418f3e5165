"""Step 3: a thread for each client."""

import socket
import threading


def serve_client(connection):
    connection.sendall(b"* hello\n")
    while data := connection.recv(1024):
        connection.sendall(b"you: " + data)
    connection.close()


listener = socket.create_server(("127.0.0.1", 8001))
print("listening on 127.0.0.1:8001", flush=True)

while True:
    connection, address = listener.accept()
    threading.Thread(target=serve_client, args=[connection], daemon=True).start()
