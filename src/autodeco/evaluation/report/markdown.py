"""Renders a report as Markdown; pictures are files beside it. Text from results never becomes markup."""

from __future__ import annotations

import html
import re

from autodeco.evaluation.report.document import Document, Figure, Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~$>-])")


def escape(text: str) -> str:
    """Text as Markdown shows it: no markup, no HTML, no line breaks."""
    # HTML first: its entities hold none of the characters that are escaped after it but '#', which is left alone.
    plain = html.escape(" ".join(text.split()), quote=False)
    return _SPECIAL.sub(_escaped, plain)


def _escaped(match: re.Match[str]) -> str:
    character = match.group(1)
    return character if character in "()-+!" else f"\\{character}"


def render(document: Document, figure_folder: str) -> str:
    """The report as Markdown.

    Args:
        document: the report.
        figure_folder: where the pictures lie, relative to the Markdown file.
    """
    lines = [f"# {escape(document.title)}"]
    for section in document.sections:
        lines.append(f"## {escape(section.title)}")
        for part in section.parts:
            if isinstance(part, Table):
                lines += _table(part)
            elif isinstance(part, Figure):
                lines += [f"### {escape(part.title)}", f"![{escape(part.title)}]({figure_folder}/{part.name}.svg)"]
                lines += [escape(part.note)]
            else:
                lines.append(escape(part))
    return "\n\n".join(line for line in lines if line) + "\n"


def _table(table: Table) -> list[str]:
    rows = [table.columns, ["---"] * len(table.columns), *table.rows]
    text = "\n".join(f"| {' | '.join(cell if cell == '---' else escape(cell) for cell in row)} |" for row in rows)
    return [f"### {escape(table.title)}", text, escape(table.note)]
