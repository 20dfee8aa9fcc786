"""What a script leaves behind: its report as JSON, and its table in a Markdown file, in the lines
between two marks.
"""

import json
from pathlib import Path
from typing import Any

from dcfnet_np.support.files import check_output, replacing

Marks = tuple[str, str]  # the lines before and after


def check(json_file: Path | None, page: Path | None, marks: Marks) -> None:
    """ValueError or OSError when `write` could not."""
    if json_file:
        check_output(json_file)
    if page and any(page.read_text(encoding="utf-8").count(mark) != 1 for mark in marks):
        raise ValueError(
            f"--page {page}: it must hold the lines {marks[0]!r} and {marks[1]!r}, once each"
        )


def write(content: Any, json_file: Path | None, text: str, page: Path | None, marks: Marks) -> None:
    """`content` into the one file, `text`, which ends with a new line, between the marks of the
    other.
    """
    if json_file:
        with replacing(json_file) as part:
            part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if page:
        before, rest = page.read_text(encoding="utf-8").split(marks[0])
        with replacing(page) as part:
            part.write_text(
                before + marks[0] + "\n" + text + marks[1] + rest.split(marks[1])[1],
                encoding="utf-8",
            )
