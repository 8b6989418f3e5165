"""Run a program that uses asyncio on uvloop's event loop: `on_uvloop.py FILE [OPTION ...]`."""

import runpy
import sys

import uvloop  # type: ignore[import-not-found]

if __name__ == "__main__":
    uvloop.install()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
