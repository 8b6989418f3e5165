"""README's generated parts: the answer at its top, and what each experiment shows.

The latter may stand in benchmarks/RESULTS.md instead. The chapters beside README are renewed, too.
"""

import html
from dataclasses import replace
from pathlib import Path

from benchmarks.arithmetic.answer import answer, losses, sentences
from benchmarks.arithmetic.results import View, load_result
from benchmarks.experiments import module
from benchmarks.showing.chapters import chapters_beside, with_numbers
from benchmarks.showing.page import LEAD, ReportError, against, disturbed, flags
from benchmarks.showing.pictures import FOR_PHONES, machine_line, pictures_of, text_of
from benchmarks.showing.tables import markdown, markdown_text, sentence_of, tables_of

PARTS = ("answer", "results")
IN_README = "benchmarks/"  # how README names what RESULTS.md has beside it
RESULTS = Path("benchmarks", "RESULTS.md")  # from README's folder
ORIGIN = "generated from benchmarks/results/reference.json"


def markers(part: str) -> tuple[str, str]:
    """The lines before and after a generated part."""
    return f"<!-- {part}: {ORIGIN} -->", f"<!-- end of {part} -->"


def rewrite_readme(readme_path: Path, result_path: Path) -> list[Path]:
    """Put this result's numbers into README and the chapters beside it; returns what has changed.

    Raises `results.ResultError` or ReportError, each one line. When one of the parts cannot be
    made, all files are left as they were.
    """
    changed = []
    for path, text in renewed(readme_path, result_path).items():
        try:
            if text != path.read_text(encoding="utf-8"):
                path.write_text(text, encoding="utf-8", newline="\n")
                changed.append(path)
        except OSError as error:
            raise ReportError(f"cannot renew {path}: {error.strerror}") from None
    return changed


def renewed(readme_path: Path, result_path: Path) -> dict[Path, str]:
    """The text that README, and each document beside it, has to have with this result."""
    view = View(load_result(result_path))
    texts = {}
    for path in (readme_path, *documents_beside(readme_path)):
        try:
            texts[path] = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ReportError(f"cannot renew {path}: {error.strerror}") from None
    for part in PARTS:
        home = home_of(part, readme_path, texts[readme_path])
        made = generated(result_path, IN_README if home == readme_path else "")
        texts[home] = texts[home].replace(part_in(texts[home], part, home), made[part])
    for path in chapters_beside(readme_path):
        texts[path] = with_numbers(texts[path], view, path)
    return texts


def documents_beside(readme_path: Path) -> list[Path]:
    """What is renewed together with README: the results, if they stand alone, and the chapters."""
    results = readme_path.parent / RESULTS
    return [*([results] if results.is_file() else []), *chapters_beside(readme_path)]


def home_of(part: str, readme_path: Path, readme: str) -> Path:
    """The document that a part belongs into: README, or the results' own."""
    results = readme_path.parent / RESULTS
    stands_alone = part == "results" and results.is_file() and markers(part)[0] not in readme
    return results if stands_alone else readme_path


def part_in(text: str, part: str, where: object = "README.md") -> str:
    """A part of README with its two markers. ReportError when they are not there once."""
    for marker in markers(part):
        if text.count(marker) != 1:
            raise ReportError(f"{where} must hold this line exactly once: {marker}")
    begin, end = (text.index(marker) for marker in markers(part))
    if end < begin:
        raise ReportError(f"{where} has the markers of its {part} in the wrong order")
    return text[begin : end + len(markers(part)[1])]


def generated(result_path: Path, prefix: str = IN_README) -> dict[str, str]:
    """Each part in Markdown, from marker to marker; `prefix` leads to the benchmarks' folder."""
    view = View(load_result(result_path))
    blocks = {"answer": _answer(view), "results": _results(view, result_path, prefix)}
    return {
        part: "\n\n".join([markers(part)[0], *blocks[part], markers(part)[1]]) for part in PARTS
    }


def _answer(view: View) -> list[str]:
    told = "\n".join(f"- {markdown_text(sentence)}" for sentence in sentences(view))
    table = markdown(replace(answer(view), title=""))  # README has that title already
    return [block for block in (markdown_text(LEAD), table, told) if block]


def _results(view: View, result_path: Path, prefix: str) -> list[str]:
    origin = (
        f"Measured on {markdown_text(machine_line(view.result))}"
        f" {markdown_text(disturbed(view.result))} {_twins(result_path)}"
        f"Every trial is in [the result file]({prefix}results/reference.json);"
        f" [benchmarks/README.md]({prefix}README.md) says how each number is made."
    )
    blocks = [origin, *map(markdown_text, flags(view))]
    for name in view.experiments():
        blocks.append(f"### {markdown_text(module(name).TITLE)}")
        blocks += [
            _picture(f"{prefix}results/{picture.name}", text_of(picture))
            for picture in pictures_of(view, name)
        ]
        blocks.append(markdown_text(sentence_of(view, name)))
        tables = [markdown(table) for table in tables_of(view, name)]
        blocks += ["<details><summary>All numbers</summary>", *tables, "</details>"]
    blocks.append("### Where the newer model loses")
    for older, newer, told in losses(view):
        nowhere = "" if told else " nowhere in these numbers"
        listed = [f"  - {markdown_text(loss)}" for loss in told]
        blocks.append("\n".join([f"- `{older}` → `{newer}`:{nowhere}", *listed]))
    return blocks


def _twins(result_path: Path) -> str:
    """What the A/A run beside the reference says of the method, in a sentence."""
    table = against(result_path)
    if table is None:
        return ""
    _, compared, shown, share = table.rows[-1]
    return f"One version against itself showed {shown} of {compared} differences ({share}). "


def _picture(path: str, alt: str) -> str:
    """A picture; on a phone the narrow one."""
    narrow = f'<source media="(max-width: 600px)" srcset="{path}{FOR_PHONES}.svg">'
    image = f'<img src="{path}.svg" alt="{html.escape(alt)}">'
    return f"<picture>{narrow}{image}</picture>"
