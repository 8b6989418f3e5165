"""Step 1: what select() returns."""

import select
import socket

listener = socket.create_server(("127.0.0.1", 8002))
print("listening on 127.0.0.1:8002", flush=True)
sockets = [listener]

while True:
    readable, _, _ = select.select(sockets, [], [])
    for ready in readable:
        if ready is listener:
            connection, address = listener.accept()
            sockets.append(connection)
            print("a client", flush=True)
        else:
            print("received", ready.recv(1024), flush=True)
