"""Bounded turns, F7: however much one client glues together, the others get theirs in between.

No test here looks at a clock. What counts is how far the greedy ones had come when the patient one
had its answer: with bounded turns that is a small part, without them it is all.
"""

import pytest

# Of 2-byte lines, eight turns; of 30-byte lines, some fifty.
GLUED = 8 * 16 * 1024


def pump_through(room, member, line, seconds=20.0):
    """Let one member send a line and everybody receive, until it has its answer: `* pong ...`."""
    member.incoming.clear()
    member.outgoing += line
    room.pump(lambda: b"* pong " in member.incoming, f"{member.name}'s pong", seconds)


def answered(member, marker):
    """How many times the marker has arrived."""
    return member.incoming.count(marker)


def test_long_answers_to_many_short_questions(launch_server, crowd, inspect):
    """F7, L3: ten clients glue `/list` among two hundred members; a ping comes through.

    Each read brings 2730 questions, whose answers are 100 times as long.
    """
    server = launch_server("--stall-timeout", "60")
    room = crowd(server)
    room.join(f"somebody-quite-{number}" for number in range(200))
    quiet, *bombers = room.join(["quiet", *(f"bomber-{number}" for number in range(10))])
    process = inspect(server)
    before = process.peak_memory()
    questions = 5000
    for bomber in bombers:
        bomber.outgoing += b"/list\n" * questions
    # Each bomber has 15 MB to get; all that is held for it is an outbox and a read.
    for _ in range(5):
        pump_through(room, quiet, b"/ping x\n")
        done = sum(answered(bomber, b" online: ") for bomber in bombers)
        assert done < 5 * questions
    grown = process.peak_memory() - before
    assert grown < 16 << 20, f"memory grew by {grown >> 20} MiB; at most 16"


def test_many_works_in_one_piece(launch_server, crowd):
    """F7, C6: between two works of one client another one is answered."""
    room = crowd(launch_server())
    worker, quiet = room.join(["worker", "quiet"])
    works = 40
    worker.outgoing += b"/work 20\n" * works
    room.pump(lambda: answered(worker, b"* worked ") >= 1, "the first work")
    for _ in range(3):
        pump_through(room, quiet, b"/ping x\n")
        pump_through(room, quiet, b"/ping x\n")
    assert answered(worker, b"* worked ") < works
    room.pump(lambda: answered(worker, b"* worked ") == works, "all works")


@pytest.mark.profile("chat")
def test_lines_behind_a_work_find_the_room_full(launch_server, crowd, inspect):
    """F7, L3: what was glued to a `/work` waits as well while somebody's outbox is too full.

    Sixty clients have each 7000 lines ready when their work is done. With a name of 80 bytes in
    front, that is 35 MB for a deaf client.
    """
    server = launch_server("--stall-timeout", "60")
    room = crowd(server)
    letter = "\N{MATHEMATICAL BOLD ITALIC SMALL A}"
    names = [f"{number:02d}{letter * 18}" for number in range(60)]
    deaf, first, *workers = room.join(["deaf", *names])
    deaf.reading = False
    process = inspect(server)
    before = process.peak_memory()
    for worker in workers:
        worker.outgoing += b"/work 1\n" + b"x\n" * 7000
    room.pump_until_quiet(0.5)
    # What the kernel takes for the deaf one is some megabytes; the last worker fills them.
    first.outgoing += (b"x" * 1000 + b"\n") * 10_000
    room.pump_until_quiet(0.5)
    for worker in workers:
        worker.outgoing += b"/work 1\n" + b"x\n" * 7000
    room.pump_until_quiet(0.5)
    grown = process.peak_memory() - before
    assert grown < 24 << 20, f"memory grew by {grown >> 20} MiB; at most 24"


@pytest.mark.parametrize("quiet_comes", ["first", "last"])
def test_a_quiet_client_among_twenty_flooders(launch_server, crowd, quiet_comes):
    """F7: wherever it stands, its questions are answered while all the others still go on."""
    room = crowd(launch_server())
    names = [f"flooder-{number:02d}" for number in range(20)]
    names.insert(0 if quiet_comes == "first" else 20, "quiet")
    by_name = {member.name: member for member in room.join(names)}
    quiet = by_name.pop("quiet")
    flooders = list(by_name.values())
    # Lines that many others have to get take longer to say.
    glued = GLUED * (8 if room.profile == "echo" else 2)
    for flooder in flooders:
        flooder.outgoing += b"so much to say\n" * (glued // 15) + b"/ping done\n"
    room.pump(
        lambda: any(len(flooder.outgoing) < glued // 2 for flooder in flooders), "a flood", 60
    )
    for _ in range(3):
        pump_through(room, quiet, b"/ping x\n", 60)
    done = [flooder.name for flooder in flooders if b"* pong done\n" in flooder.incoming]
    assert len(done) < 20


def test_two_hundred_newcomers_beside_ten_flooders(launch_server, crowd):
    """F7, H1: they are greeted while the flood goes on, not one after each of its turns."""
    room = crowd(launch_server())
    flooders = room.join(f"flooder-{number}" for number in range(10))

    def flood_on():
        for flooder in flooders:
            if len(flooder.outgoing) < 100_000:
                flooder.outgoing += b"and so on\n" * 10_000
            flooder.incoming.clear()

    def turns_of_the_flood():
        flood_on()
        return all(not flooder.closed for flooder in flooders)

    room.pump(turns_of_the_flood, "the flood")
    newcomers = room.connect(f"newcomer-{number}" for number in range(200))

    def all_are_greeted():
        flood_on()
        return all(b"enter your name" in newcomer.incoming for newcomer in newcomers)

    room.pump(all_are_greeted, "200 greetings", 40)


def test_lines_keep_their_order_when_a_turn_is_cut_short(launch_server, crowd):
    """F5, F7: questions and works in one piece are answered in the order they were sent."""
    room = crowd(launch_server())
    room.join(f"somebody-quite-{number}" for number in range(100))
    (asker,) = room.join(["asker"])
    expected = []
    for number in range(400):
        asker.outgoing += b"/ping %d\n/list\n" % number
        expected += [f"* pong {number}", "/list"]
        if number % 100 == 50:
            asker.outgoing += b"/work 1\n"
            expected.append("* worked 1 ms")
    room.pump(lambda: b"* pong 399\n" in asker.incoming, "the last answer")
    room.barrier([asker])
    got = ["/list" if " online: " in line else line for line in asker.lines()[:-1]]
    assert got == expected
