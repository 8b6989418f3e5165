"""Step 2: one loop, many clients."""

import select
import socket

listener = socket.create_server(("127.0.0.1", 8002))
print("listening on 127.0.0.1:8002", flush=True)
rests = {}

while True:
    readable, _, _ = select.select([listener, *rests], [], [])
    for ready in readable:
        if ready is listener:
            connection, address = listener.accept()
            connection.sendall(b"* hello\n")
            rests[connection] = b""
            continue
        data = ready.recv(1024)
        *lines, rests[ready] = (rests[ready] + data).split(b"\n")
        for line in lines:
            ready.sendall(b"you: " + line + b"\n")
        if not data:
            del rests[ready]
            ready.close()
