"""What a study leaves behind: its report as JSON, and its table in a page, between two marks."""

import argparse
import json
from pathlib import Path
from typing import Any

from dcfnet_np.support.files import check_output, replacing


def marks(study: str) -> tuple[str, str]:
    """The lines before and after the table of a study, "ladder" say."""
    begin = f"<!-- {study}: written by benchmarks/studies/{study}.py --page -->"
    return begin, f"<!-- end of {study} -->"


def add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="a Markdown file whose table is written anew")


def check(args: argparse.Namespace, study: str) -> None:
    """ValueError or OSError when `write` could not."""
    if args.json:
        check_output(args.json)
    if args.page:
        text = args.page.read_text(encoding="utf-8")
        begin, end = marks(study)
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"--page {args.page}: it must hold {begin!r} and {end!r}, once each")


def write(content: Any, table: str, args: argparse.Namespace, study: str) -> None:
    """`content` into --json, `table`, which ends with a new line, between the marks of --page."""
    print(table)
    if args.json:
        with replacing(args.json) as part:
            part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if args.page:
        begin, end = marks(study)
        before, rest = args.page.read_text(encoding="utf-8").split(begin)
        after = rest.split(end)[1]
        with replacing(args.page) as part:
            part.write_text(f"{before}{begin}\n{table}{end}{after}", encoding="utf-8")
