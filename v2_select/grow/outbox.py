"""Step 4: an outbox for each client."""

import select
import socket

listener = socket.create_server(("127.0.0.1", 8002))
print("listening on 127.0.0.1:8002", flush=True)
rests = {}
outboxes = {}

while True:
    writers = [each for each, outbox in outboxes.items() if outbox or each not in rests]
    readable, writable, _ = select.select([listener, *rests], writers, [])
    for ready in readable:
        if ready is listener:
            connection, address = listener.accept()
            connection.setblocking(False)
            rests[connection] = b""
            outboxes[connection] = bytearray(b"* hello\n")
            continue
        data = ready.recv(1024)
        *lines, rests[ready] = (rests[ready] + data).split(b"\n")
        for line in lines:
            outboxes[ready] += b"you: " + line + b"\n"
        if not data:
            del rests[ready]
    for ready in writable:
        sent = ready.send(outboxes[ready])
        del outboxes[ready][:sent]
        if ready not in rests and not outboxes[ready]:
            del outboxes[ready]
            ready.close()
