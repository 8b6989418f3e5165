"""A server that is busy with some, or asked for much in one piece: F7 and L3 for all the others."""

import pytest


def test_works_are_answered_one_by_one(launch_server, crowd):
    """C6, F7: who has had its work done is told so before the work of all the others is done."""
    room = crowd(launch_server())
    first, *workers = room.join(f"worker-{number}" for number in range(5))
    first.outgoing += b"/work 300\n"
    room.pump(lambda: not first.outgoing, "the first one to ask")
    for worker in workers:
        worker.outgoing += b"/work 300\n"

    def answered():
        return [worker for worker in workers if b"* worked 300 ms\n" in worker.incoming]

    room.pump(answered, "the first answer")
    assert len(answered()) < 4, "all four works were done before the first was answered"
    room.pump(lambda: len(answered()) == 4, "the other answers")


@pytest.mark.profile("chat")
def test_private_messages_in_one_piece(launch_server, crowd, inspect):
    """C7, F7: each concerns one member, so it costs the same in a room of three hundred."""
    server = launch_server()
    room = crowd(server)
    room.join(f"somebody-{number}" for number in range(300))
    sender, recipient = room.join(["sender", "recipient"])
    process = inspect(server)
    before = process.peak_memory()
    messages = 4000
    sender.outgoing += b"/pm recipient x\n" * messages
    room.pump(lambda: recipient.incoming.count(b"\n") == messages, "all private messages")
    grown = (process.peak_memory() - before) >> 20
    assert grown < 16, f"memory grew by {grown} MiB for {messages} messages of 10 bytes; at most 16"
