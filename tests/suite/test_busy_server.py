"""Busy servers, F7 and L3: some clients ask for much, and the others are still served."""

import pytest


def test_works_are_answered_one_by_one(launch_server, crowd):
    """C6, F7: a client whose work is done is told so before the work of all the others is done."""
    room = crowd(launch_server())
    first, *workers = room.join(f"worker-{number}" for number in range(5))
    first.outgoing += b"/work 150\n"
    room.pump(lambda: not first.outgoing, "the first one to ask")
    for worker in workers:
        worker.outgoing += b"/work 150\n"

    def answered():
        return [worker for worker in workers if b"* worked 150 ms\n" in worker.incoming]

    room.pump(answered, "the first answer")
    assert len(answered()) < 4, "all four works were done before the first was answered"
    room.pump(lambda: len(answered()) == 4, "the other answers")


@pytest.mark.profile("chat")
def test_private_messages_in_one_piece(launch_server, crowd, bounded_memory):
    """C7, F7: each concerns one member, so it costs no more in a room of three hundred."""
    room = crowd(server := launch_server())
    room.join(f"somebody-{number}" for number in range(300))
    sender, recipient = room.join(["sender", "recipient"])
    messages = 4000
    sender.outgoing += b"/pm recipient x\n" * messages
    with bounded_memory(server, 16):
        room.pump(lambda: recipient.incoming.count(b"\n") == messages, "all private messages")
