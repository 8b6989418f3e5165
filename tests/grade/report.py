"""The readable report of a grade, and the table of many: plain text, 80 columns."""

import os
import textwrap

from harness import command_line
from tests.grade.grading import Grade
from tests.grade.judgement import Answer
from tests.grade.points import MODEL_POINTS, RuleGrade, total
from tests.suite import rules
from tests.suite.rule_report import Outcome, Result

WIDTH = 80
# Rules that are named one by one.
MOST_OTHERS = 8
# Characters of what a server said that are shown in one place.
SHORT = 300
LABEL = 10
# Characters of a name in the table.
NAME = 20
COLUMNS = ("hand-", "fram-", "com-", "deli-", "lim-", "life", "")
COLUMNS_BELOW = ("shake", "ing", "mands", "very", "its", "cycle", "model")


def report(grade: Grade) -> str:
    """Everything about one grade: where to begin, the milestones, each loss, the model."""
    sections = [
        # What was given stays in one line, so that it can be searched for and copied.
        f"{headline(grade)}\nGiven as: {readable(grade.given)}",
        fill("Begin here: ", where_to_begin(grade)[1]),
        short_check(grade),
        milestones(grade),
    ]
    if not grade.preflight.nobody_gets_in:
        sections += rule_sections(grade)
    sections.append(model_section(grade))
    sections += [fill("Note: ", note) for note in notes_for_all(grade)]
    return "\n\n".join(section for section in sections if section) + "\n"


def headline(grade: Grade) -> str:
    """The points, and those that could not be graded."""
    open_points = f", {grade.not_graded:.1f} not graded" if grade.not_graded else ""
    task = f", task {grade.order.task}" if grade.order.task else ""
    model = f", model {grade.order.model}" if grade.order.model else ""
    text = (
        f"{readable(grade.name)}: {grade.earned:.1f} of {grade.worth:.1f} points{open_points} "
        f"(profile {grade.order.profile}{task}{model})"
    )
    return fill("", text)


def where_to_begin(grade: Grade) -> tuple[str, str]:
    """What to repair first: in a word for the table, and in the line that leads the report."""
    if grade.preflight.error is not None:
        return "start", f"the server cannot be tested: {printable(grade.preflight.error)}"
    if first := grade.preflight.broken_rule or grade.first_broken():
        others = [each.rule for each in grade.rules if each.is_broken and each.rule != first]
        named = ", ".join(others) if len(others) <= MOST_OTHERS else f"{len(others)} rules"
        then = f" Others may fail because of it: {named}." if others else ""
        return first, f"rule {first}: {shorten(rules.text_of(first), 160)}{then}"
    if grade.cut_short:
        return "time", f"the run was cut short: {printable(grade.cut_short)}"
    verdict = grade.verdict
    word = "model" if verdict and verdict.lost else "-"
    unpassed = next((each for each in grade.rules if each.lost), None)
    if unpassed is not None:
        return word, f"{unpassed.rule} was not tested: {printable(unpassed.losses[0].message)}"
    if verdict and verdict.answer is Answer.NO:
        return word, f"the model is not {grade.order.model}: {printable(verdict.because)}"
    if verdict and verdict.lost:
        return word, "what the model leaves to be desired, see below"
    return word, "nothing was found to be broken"


def short_check(grade: Grade) -> str:
    """What the short check at the beginning was answered, if that broke a rule."""
    fault = grade.preflight.fault
    if fault is None:
        return ""
    lines = [
        fill("    ", f"A short check of the whole protocol stopped at {fault.rule}."),
        *_labelled_all(
            before=fault.before,
            sent=fault.sent,
            came=fault.came,
            expected=fault.expected,
            server=grade.preflight.ending,
        ),
    ]
    if grade.preflight.nobody_gets_in:
        lines.append(fill("    ", "No other test could get into the server, so none was run."))
    return "\n".join(lines)


def milestones(grade: Grade) -> str:
    """One line for each milestone: its points, and what is still missing for it."""
    lines = []
    for milestone in rules.milestones(grade.order.task):
        members = grade.of_milestone(milestone)
        if not members:
            continue
        earned, worth = total(members, "earned"), total(members, "worth")
        missing = [
            f"{each.rule} ({each.worth - each.earned:.1f})"
            for each in members
            if each.earned < each.worth
        ]
        state = f"still missing: {', '.join(missing)}" if missing else "complete"
        lines.append(fill(f"{milestone:<10} {earned:5.1f} of {worth:5.1f}  ", state))
    if grade.verdict:
        state = "complete" if grade.verdict.earned == MODEL_POINTS else "see below"
        lines.append(f"{'model':<10} {grade.verdict.earned:5.1f} of {MODEL_POINTS:5.1f}  {state}")
    return "\n".join(lines)


def rule_sections(grade: Grade) -> list[str]:
    """A section for each rule that has lost points; if nobody got in, for the first one alone."""
    losses = [each for each in grade.rules if each.losses]
    first = grade.first_broken()
    if grade.anybody_was_in or first is None:
        return [rule_section(each) for each in losses]
    unknown = ", ".join(each.rule for each in losses if each.rule != first)
    return [
        *(rule_section(each) for each in losses if each.rule == first),
        fill("", f"Nobody got in (H3). So little is known of {unknown}."),
    ]


def rule_section(grade: RuleGrade) -> str:
    """A rule that has lost points: its text in short, and the first of its tests that failed."""
    parts = [f"{grade.earned:.1f} of {grade.worth:.1f} points"]
    if grade.not_graded:
        parts.append(f"{grade.not_graded:.1f} not graded")
    if grade.functions:
        parts.append(f"{grade.passed} of {grade.functions} tests passed")
    lines = [
        fill(f"{grade.rule}  ", "; ".join(parts)),
        fill("    ", shorten(rules.text_of(grade.rule), 200)),
    ]
    failed = [loss for loss in grade.losses if loss.result == Result.FAILED]
    if failed:
        loss, *others = failed
        lines += _labelled_all(
            test=loss.test,
            sent=loss.sent,
            came=loss.came,
            expected=loss.expected,
            in_words=loss.message,
            server=loss.server,
            also=", ".join(map(_short_name, others)),
        )
    for result in (Result.SKIPPED, Result.NOT_RUN):
        names_by_reason: dict[str, list[str]] = {}
        for loss in grade.losses:
            if loss.result == result:
                reason = loss.message or "no reason was given"
                names_by_reason.setdefault(reason, []).append(_short_name(loss))
        for reason, names in names_by_reason.items():
            shown = ", ".join(filter(None, names))
            lines.append(_labelled(result, f"{reason} ({shown})" if shown else reason))
    return "\n".join(lines)


def model_section(grade: Grade) -> str:
    """The verdict about the model, and what it rests on; empty where none was asked for."""
    verdict = grade.verdict
    if verdict is None:
        return ""
    in_words = {
        Answer.YES: f"it is {verdict.model}, seen from outside",
        Answer.NO: f"it is not {grade.order.model}",
        Answer.NOT_TESTED: "it was not looked at",
        Answer.CANNOT_TELL: "cannot tell",
    }[verdict.answer]
    if grade.order.model == "any" and verdict.answer is Answer.NO:
        in_words = "it is none of threads, select and asyncio"
    because = f" ({printable(verdict.because)})" if verdict.because else ""
    points = f"{verdict.earned:.1f} of {MODEL_POINTS:.1f} points"
    lines = [fill("model  ", f"{points}: {in_words}{because}")]
    for each in grade.evidence:
        lines.append(fill(f"    {each.name}: ", printable(f"{each.finding} ({each.facts})")))
    return "\n".join(lines)


def notes_for_all(grade: Grade) -> list[str]:
    """What a student should know beside the points."""
    notes = [printable(note) for note in grade.notes]
    if grade.cut_short:
        notes.append(
            f"the run was cut short: {printable(grade.cut_short)}. What was not run earns nothing. "
            "A server that lets the tests wait takes long: mend what is named first, and grade "
            "again. On a busy machine give it a longer --time-limit"
        )
    if grade.left_behind:
        notes.append(
            f"the server left processes behind (the grader ended {len(grade.left_behind)})"
        )
    if grade.not_graded:
        notes.append(
            f"{grade.not_graded:.1f} points could not be graded on this system: no point is "
            "given by guess, and none of them is a fault of the server"
        )
    return notes


def instructor_section(grade: Grade) -> str:
    """What is for the instructor alone: use of resources, last words, processes left behind."""
    lines = [
        f"given as: {readable(grade.given)}",
        f"graded in {grade.seconds:.0f} s; at most {grade.most_processes} processes, "
        f"{grade.most_memory >> 20} MiB in one of them",
    ]
    lines += [printable(note) for note in grade.notes]
    words = [loss.server for each in grade.rules for loss in each.losses if loss.server]
    for last_words in dict.fromkeys(words):
        lines.append(f"server: {printable(last_words)}")
    if not grade.preflight.is_passed:
        lines.append(f"short check: {printable(str(grade.preflight.as_json()))}")
    for each in grade.evidence:
        lines.append(printable(f"{each.name}: {each.finding} ({each.facts})"))
    for command in dict.fromkeys(grade.left_behind[:10]):
        lines.append(f"left behind: {printable(command)}")
    return "\n".join(lines)


# ---- the table of many ----


def table(grades: list[Grade]) -> str:
    """One line for each submission, and where each is to begin."""
    names = [readable(grade.name) for grade in grades]
    width = max(10, *(min(NAME, len(name)) for name in names))
    task = grades[0].order.task
    columns = list(zip(COLUMNS, COLUMNS_BELOW, strict=True))
    if task is not None:
        columns = [("", "task"), columns[-1]]
    head = [f"{'submission':<{width}}  points", f"{'':<{width}}        "]
    for above, below in columns:
        head[0] += f" {above:>5}"
        head[1] += f" {below:>5}"
    lines = [f"{head[0]}  first", f"{head[1]}  broken"]
    for name, grade in zip(names, grades, strict=True):
        cells = [_cell(grade.of_milestone(each)) for each in rules.milestones(task)]
        cells.append(f"{grade.verdict.earned:.1f}" if grade.verdict else "")
        row = f"{_cut_inside(name):<{width}}  {grade.earned:6.1f}"
        row += "".join(f" {cell:>5}" for cell in cells)
        lines.append(f"{row}  {where_to_begin(grade)[0]}")
    lines.append("")
    lines += [
        fill(f"{name}: ", where_to_begin(grade)[1])
        for name, grade in zip(names, grades, strict=True)
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _cut_inside(name: str) -> str:
    """A long name without its middle: many names may begin alike."""
    half = NAME // 2 - 1
    return name if len(name) <= NAME else f"{name[:half]}..{name[-half:]}"


def _cell(members: list[RuleGrade]) -> str:
    return f"{total(members, 'earned'):.1f}" if members else ""


# ---- words ----


def printable(text: str) -> str:
    """One line without control characters: what a server says may contain anything."""
    return shorten(command_line.printable(" ".join(text.split()), longest=None), SHORT)


def readable(name: str) -> str:
    """A name or path as it is, but for characters that a terminal might obey, or cannot show."""
    return command_line.printable(os.fsencode(name).decode(errors="backslashreplace"), longest=None)


def shorten(text: str, length: int) -> str:
    """The text, or its beginning, up to the end of a word where one is near, and three dots."""
    if len(text) <= length:
        return text
    beginning = text[: length - 4]
    words = beginning.rpartition(" ")[0]
    return (words if len(beginning) - len(words) < 20 else beginning).rstrip() + " ..."


def fill(label: str, text: str) -> str:
    """The text behind its label, in lines of 80 columns that stand under each other."""
    indent = min(len(label), 24)
    return textwrap.fill(
        text or "-",
        WIDTH,
        initial_indent=label,
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
    )


def _labelled(label: str, text: str) -> str:
    return fill(f"    {label + ':':<{LABEL}}", printable(text))


def _labelled_all(**texts: str | None) -> list[str]:
    """A line for each text that there is, behind its name as the label."""
    return [_labelled(label.replace("_", " "), text) for label, text in texts.items() if text]


def _short_name(loss: Outcome) -> str:
    return loss.function.rpartition("::")[2]
