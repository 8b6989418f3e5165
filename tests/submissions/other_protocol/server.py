"""A submission of another protocol: it waits for a request, as HTTP does, and answers with one."""

import argparse
import socket

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
port = parser.parse_known_args()[0].port
listener = socket.create_server(("127.0.0.1", port))
print(f"other_protocol listening on 127.0.0.1:{port}", flush=True)
while True:
    connection, _ = listener.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nhi\n")
