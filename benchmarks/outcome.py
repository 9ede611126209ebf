"""Where a benchmark's figures go: JSON with every sample, and a table for a page."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def say_where(parser: argparse.ArgumentParser) -> None:
    """Add the options that name both files."""
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--markdown", type=Path)


def keep(document: Mapping[str, Any], table: str, arguments: argparse.Namespace) -> None:
    """Write the document, and print and write the table, as `say_where`'s options tell."""
    arguments.out.write_text(json.dumps(document, indent=1) + "\n")
    print(table)
    if arguments.markdown:
        arguments.markdown.write_text(table)
