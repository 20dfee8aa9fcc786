"""A part of a Markdown file that a script writes: the lines between its two marks."""

from pathlib import Path

from dcfnet_np.files import replacing

Marks = tuple[str, str]  # of the lines before and after


def check(page: Path, marks: Marks) -> None:
    """ValueError or OSError when the file has no such part."""
    if any(page.read_text(encoding="utf-8").count(mark) != 1 for mark in marks):
        raise ValueError(f"--page {page}: there is no line {marks[0]!r} in it exactly once, or no end")


def rewrite(page: Path, marks: Marks, text: str) -> None:
    """Put `text`, which ends with a new line, between the marks."""
    before, rest = page.read_text(encoding="utf-8").split(marks[0])
    with replacing(page) as part:
        part.write_text(before + marks[0] + "\n" + text + marks[1] + rest.split(marks[1])[1], encoding="utf-8")
