#!/usr/bin/env python3
"""v4 over TLS: one more argument, and then an end that TLS does not have.

There is no certificate here, so neither end knows who the other one is. Only an experiment may do
without.
"""

import socket
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness.launcher import REPOSITORY
from tests.zoo.patching import apply_diff
from what_comes_next.tls_hides_input import without_certificate

SERVER = REPOSITORY / "v4_asyncio" / "server.py"
DIFF = Path(__file__).with_suffix(".diff")
# A server as it is, except that start_server() gets one more argument.
WITH_TLS = """
import asyncio, functools, runpy, ssl, sys
from what_comes_next.tls_hides_input import without_certificate
context = without_certificate(ssl.PROTOCOL_TLS_SERVER)
asyncio.start_server = functools.partial(asyncio.start_server, ssl=context)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        mended = Path(folder, "server.py")
        source = SERVER.read_text(encoding="utf-8")
        mended.write_text(apply_diff(DIFF.read_text(encoding="utf-8"), source), encoding="utf-8")
        try_server("with ssl=", SERVER)
        try_server("and its own end", mended)


def try_server(name: str, program: Path) -> None:
    """Let alice come and go; print what she hears, and the errors in the server's log."""
    command = [sys.executable, "-c", WITH_TLS, str(program), "--port", "0"]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    ) as server:
        port = int(server.stdout.readline().rpartition(":")[2])
        lines = talk(port, "alice")
        # What the server has to say of her it has said when it has served another one.
        talk(port, "bob")
        server.terminate()
        _, log = server.communicate(timeout=10)
    errors = {line for line in log.splitlines() if line.endswith("Error") and " " not in line}
    said = ", ".join(errors) or "none"
    print(f"{name}: alice hears {lines[-1]!r}; errors in the server's log: {said}")


def talk(port: int, name: str) -> list[str]:
    """Join, leave, and read to the end."""
    context = without_certificate(ssl.PROTOCOL_TLS_CLIENT)
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    with context.wrap_socket(plain, suppress_ragged_eofs=True) as connection:
        connection.sendall(f"{name}\n/quit\n".encode())
        with connection.makefile(encoding="utf-8") as lines:
            return lines.read().splitlines()


if __name__ == "__main__":
    main()
