"""Records what a Python server does, from outside: `recorder.py RECORDING SERVER.py [OPTION ...]`.

Before the server's file is run, the public calls in which a server waits or talks to the kernel are
wrapped: those of sockets, select(), selectors, locks and executors. Each call becomes one record of
fixed size in a file that is mapped into memory. The record is there before the call begins and is
completed when it returns. So a server that is killed in the middle leaves behind what it did up to
then. This file imports nothing of ours, as it runs inside the server.
"""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import inspect
import itertools
import mmap
import os
import runpy
import select
import selectors
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from enum import IntEnum
from typing import Any

# start and end in ns (time.monotonic_ns; an end of 0: not yet), thread, port of a client or 0,
# bytes (-1: it failed), which call, number of a coroutine's name.
RECORD = struct.Struct("=qqQiiHH")
END, END_AT = struct.Struct("=q"), 8
PORT, PORT_AT = struct.Struct("=i"), 24
COUNT, COUNT_AT = struct.Struct("=i"), 28
MOST_RECORDS = 1 << 20  # 36 MiB; what comes after them is not recorded
RECORDS_IN_MEMORY = 512
LARGEST_COUNT = 2**31 - 1  # bytes in one call
MAIN_THREAD = 1  # the number of the thread in which the server's file is run
GIVE_BACK = getattr(mmap, "MADV_DONTNEED", None)
NAMES_SUFFIX = ".names"

# The port of the client that the coroutine of this context serves.
SERVED: contextvars.ContextVar[int] = contextvars.ContextVar("served", default=0)


class Call(IntEnum):
    """The calls that are recorded."""

    SELECT = 1
    ACCEPT = 2
    RECV = 3
    SEND = 4
    SHUTDOWN = 5
    CLOSE = 6
    LOCK = 7
    WORK = 8
    SLEEP = 9
    # A coroutine that runs, from where it goes on to where it waits again.
    RUN = 10


class Recorder:
    """The file of records, and the next free place in it."""

    def __init__(self, path: str) -> None:
        """In a folder, each process has a file of its own."""
        if os.path.isdir(path):
            path = os.path.join(path, f"{os.getpid()}.recording")
        size = MOST_RECORDS * RECORD.size
        self.is_on = True
        try:
            self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
            os.truncate(self.file, size)
            self.records = mmap.mmap(self.file, size)
            names = path + NAMES_SUFFIX
            self.name_file = os.open(names, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        # There is no room for a recording. The server is to run all the same.
        except OSError:
            self.is_on = False
        self.places = itertools.count()
        self.threads = itertools.count(MAIN_THREAD)
        self.here = threading.local()
        # The main thread has its number before any other can take it.
        self.thread()
        self.names: dict[str, int] = {}
        # A child would write over the records of its parent.
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.switch_off)

    def switch_off(self) -> None:
        """Record nothing more in this process."""
        self.is_on = False

    def thread(self) -> int:
        """A number for this thread. That of the system may be used again for another one."""
        try:
            return self.here.number
        except AttributeError:
            self.here.number = next(self.threads)
            return self.here.number

    def begin(self, call: Call, port: int = 0, name: int = 0) -> int:
        """Note that a call begins; returns where its record is, or -1 if there is no more room."""
        if not self.is_on:
            return -1
        place = next(self.places)
        if place >= MOST_RECORDS:
            return -1
        at = place * RECORD.size
        if place % RECORDS_IN_MEMORY == 0 and not self.make_room(at):
            return -1
        thread, now = self.thread(), time.monotonic_ns()
        RECORD.pack_into(self.records, at, now, 0, thread, port, 0, call, name)
        return at

    def make_room(self, at: int) -> bool:
        """Have the disk keep room for the next records; without it, recording ends.

        To write into a mapping for which the disk has no room would end the server (SIGBUS). What
        was written stays in the file, and need not count as the server's memory.
        """
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self.file, at, 2 * RECORDS_IN_MEMORY * RECORD.size)
        except OSError:
            self.is_on = False
            return False
        if GIVE_BACK is not None:
            self.records.madvise(GIVE_BACK)
        return True

    def end(self, at: int, count: int = 0, port: int = 0) -> None:
        """Note that it has returned, with so many bytes, or -1 for an error."""
        if at < 0:
            return
        END.pack_into(self.records, at + END_AT, time.monotonic_ns())
        if count:
            COUNT.pack_into(self.records, at + COUNT_AT, min(count, LARGEST_COUNT))
        if port:
            PORT.pack_into(self.records, at + PORT_AT, port)

    def watched(self, call: Call, original: Callable, port: int = 0) -> Callable:
        """The same function, each call of which is recorded."""

        def function(*arguments: Any, **options: Any) -> Any:
            at = self.begin(call, port)
            try:
                return original(*arguments, **options)
            finally:
                self.end(at)

        return function

    def number_of(self, name: str) -> int:
        """The number that stands for a name in the records."""
        if name not in self.names:
            self.names[name] = len(self.names) + 1
            # Without room on the disk the coroutine has no name in the picture.
            with contextlib.suppress(OSError, AttributeError):
                os.write(self.name_file, f"{name}\n".encode())
        return self.names[name]


def record(path: str) -> None:
    """Wrap the calls, and record each of them in this file from now on."""
    recorder = Recorder(path)
    _watch_sockets(recorder)
    _watch_readiness(recorder)
    _watch_threads(recorder)
    _watch_asyncio(recorder)


def _watch_sockets(recorder: Recorder) -> None:
    """Methods are set on the class itself, so that sockets from accept() have them, too."""
    # A descriptor is used again once it is closed, and a port names one client for good.
    ports: dict[int, int] = {}
    kept = socket.socket

    def watched(name: str, call: Call, counts: bool) -> None:
        original = getattr(kept, name)

        def method(self: socket.socket, *arguments: Any, **options: Any) -> Any:
            at = recorder.begin(call, ports.get(self.fileno(), 0))
            try:
                result = original(self, *arguments, **options)
            except BaseException:
                recorder.end(at, -1)
                raise
            recorder.end(at, _size(arguments[0] if result is None else result) if counts else 0)
            return result

        setattr(kept, name, method)

    for name in ("recv", "recv_into"):
        watched(name, Call.RECV, True)
    for name in ("send", "sendmsg", "sendall"):
        # Windows has no sendmsg().
        if hasattr(kept, name):
            watched(name, Call.SEND, True)
    watched("shutdown", Call.SHUTDOWN, False)
    accept, close = kept.accept, kept.close

    def accept_and_note(self: socket.socket) -> Any:
        at = recorder.begin(Call.ACCEPT)
        try:
            connection, address = accept(self)
        except BaseException:
            recorder.end(at, -1)
            raise
        port = address[1] if isinstance(address, tuple) else 0
        ports[connection.fileno()] = port
        recorder.end(at, 0, port)
        return connection, address

    def close_and_forget(self: socket.socket) -> None:
        descriptor = self.fileno()
        port = ports.pop(descriptor, 0)
        at = recorder.begin(Call.CLOSE, port)
        try:
            close(self)
        finally:
            recorder.end(at)
        # It stays open as long as a file made of it is.
        if self.fileno() >= 0 and port:
            ports[descriptor] = port

    kept.accept = accept_and_note  # type: ignore[method-assign, assignment]
    kept.close = close_and_forget  # type: ignore[method-assign, assignment]


def _size(result: bytes | int) -> int:
    """How many bytes were moved: what a call returned, or all that sendall() was given."""
    return result if isinstance(result, int) else memoryview(result).nbytes


def _watch_readiness(recorder: Recorder) -> None:
    """select() itself, and the selectors that stand on other calls."""
    for name in ("EpollSelector", "KqueueSelector", "PollSelector", "SelectSelector"):
        selector = getattr(selectors, name, None)
        if selector:
            selector.select = recorder.watched(Call.SELECT, selector.select)
    select.select = recorder.watched(Call.SELECT, select.select)


class WatchedLock:
    """A lock whose waits are recorded; one that is free is taken without a record."""

    recorder: Recorder

    def __init__(self) -> None:
        self.lock = _new_lock()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, as threading.Lock does."""
        if self.lock.acquire(False):
            return True
        if not blocking:
            return False
        at = self.recorder.begin(Call.LOCK)
        try:
            return self.lock.acquire(True, timeout)
        finally:
            self.recorder.end(at)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lock, name)


_new_lock = threading.Lock


def _watch_threads(recorder: Recorder) -> None:
    WatchedLock.recorder = recorder
    threading.Lock = WatchedLock  # type: ignore[misc, assignment]
    for owner, name in ((threading.Condition, "wait"), (threading.Thread, "join"), (time, "sleep")):
        setattr(owner, name, recorder.watched(Call.SLEEP, getattr(owner, name)))
    submit = concurrent.futures.ThreadPoolExecutor.submit

    def submit_watched(self: Any, function: Callable, /, *arguments: Any, **options: Any) -> Any:
        work = recorder.watched(Call.WORK, function, SERVED.get())
        return submit(self, work, *arguments, **options)

    concurrent.futures.ThreadPoolExecutor.submit = submit_watched  # type: ignore[method-assign]


class WatchedCoroutine(Coroutine):
    """A coroutine whose every step is recorded, with the port of the client that it serves."""

    def __init__(self, recorder: Recorder, coroutine: Coroutine, port: int) -> None:
        self.recorder = recorder
        self.coroutine = coroutine
        self.port = port
        self.__name__ = getattr(coroutine, "__name__", "coroutine")
        self.__qualname__ = getattr(coroutine, "__qualname__", self.__name__)
        self.number = recorder.number_of(self.__qualname__)

    def send(self, value: Any) -> Any:
        """Run on, to the next point where it waits."""
        at = self.recorder.begin(Call.RUN, self.port, self.number)
        try:
            return self.coroutine.send(value)
        finally:
            self.recorder.end(at)

    def throw(self, *error: Any) -> Any:
        """Run on with an exception, such as that of cancel()."""
        at = self.recorder.begin(Call.RUN, self.port, self.number)
        try:
            return self.coroutine.throw(*error)
        finally:
            self.recorder.end(at)

    def close(self) -> None:
        """End it where it waits."""
        self.coroutine.close()

    def __await__(self) -> Any:
        return self.coroutine.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.coroutine, name)


def _port_of(value: object) -> int:
    """The client's port, if this is its stream or its socket."""
    address = None
    if isinstance(value, asyncio.StreamWriter):
        address = value.get_extra_info("peername")
    elif isinstance(value, socket.socket):
        # A listener has no other side.
        with contextlib.suppress(OSError):
            address = value.getpeername()
    return address[1] if isinstance(address, tuple) else 0


def _watch_asyncio(recorder: Recorder) -> None:
    """Every task gets a coroutine whose steps are recorded.

    It serves the client whose stream or socket is among its arguments, or the one that is served by
    the coroutine that made it.
    """
    create_task = asyncio.BaseEventLoop.create_task

    def create_watched(self: Any, coroutine: Any, **options: Any) -> Any:
        # asyncio itself says what is wrong with what is none.
        if not asyncio.iscoroutine(coroutine):
            return create_task(self, coroutine, **options)
        port = SERVED.get()
        if inspect.iscoroutine(coroutine):
            for value in inspect.getcoroutinelocals(coroutine).values():
                port = _port_of(value) or port
        # The task takes a copy of the context with it.
        token = SERVED.set(port)
        try:
            watched = WatchedCoroutine(recorder, coroutine, port)
            return create_task(self, watched, **options)
        finally:
            SERVED.reset(token)

    asyncio.BaseEventLoop.create_task = create_watched  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    del sys.argv[0]
    record(sys.argv.pop(0))
    # As if Python had been given the server's file: it imports modules from that file's folder.
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    runpy.run_path(sys.argv[0], run_name="__main__")
