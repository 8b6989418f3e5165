"""Step 3: what send() says when there is not enough room."""

import socket

server, client = socket.socketpair()
server.setblocking(False)
print("it took", server.send(bytes(1_000_000)), "of 1000000 bytes")
try:
    server.send(b"more")
except BlockingIOError as error:
    print("then:", error)
client.recv(100_000)
print("after the client has read:", server.send(bytes(50_000)))
