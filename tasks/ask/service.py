#!/usr/bin/env python3
"""A service for task 6: it takes a line, and answers with one after some time."""

import argparse
import socket
import threading
import time


def answer(connection: socket.socket, seconds: float, words: str) -> None:
    with connection, connection.makefile("rb") as lines:
        question = lines.readline()
        print("asked:", question.decode(errors="replace").rstrip(), flush=True)
        time.sleep(seconds)
        try:
            connection.sendall(words.encode() + b"\n")
        # The server has taken another answer meanwhile.
        except OSError as error:
            print("nobody listens any more:", error, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Answers each line with the same words.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--after", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("words")
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", options.port)) as listener:
        while True:
            connection, _ = listener.accept()
            arguments = (connection, options.after, options.words)
            threading.Thread(target=answer, args=arguments, daemon=True).start()


if __name__ == "__main__":
    main()
