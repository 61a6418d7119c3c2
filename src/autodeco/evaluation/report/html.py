"""Renders a report as one self-contained HTML page. Everything is escaped; pictures are images, which run nothing."""

from __future__ import annotations

import base64
from typing import Any

from autodeco.errors import MissingDependencyError
from autodeco.evaluation.report.document import Document, Figure, Table

# An inline <svg> is part of the page, and a name in it with markup would be too. As an image it can do nothing.
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{{ document.title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; }
th, td { border-bottom: 1px solid #ddd; padding: 0.25rem 0.6rem; text-align: left; vertical-align: top; }
.note { color: #555; font-size: 0.85rem; }
img { max-width: 100%; }
</style>
</head>
<body>
<main>
<h1>{{ document.title }}</h1>
{% for section in document.sections %}
<section>
<h2>{{ section.title }}</h2>
{% for part in section.parts %}
{% if part is string %}<p>{{ part }}</p>
{% elif part.columns is defined %}
<h3>{{ part.title }}</h3>
<div class="table" role="group" aria-label="{{ part.title }}" tabindex="0"><table>
<thead><tr>{% for column in part.columns %}<th scope="col">{{ column }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in part.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody>
</table></div>
<p class="note">{{ part.note }}</p>
{% else %}
<h3>{{ part.title }}</h3>
<img alt="{{ part.title }}" src="{{ image(part) }}">
<p class="note">{{ part.note }}</p>
{% endif %}
{% endfor %}
</section>
{% endfor %}
</main>
</body>
</html>
"""


def render(document: Document) -> str:
    """The report as one page.

    Raises:
        MissingDependencyError: Jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise MissingDependencyError("reports need Jinja2: pip install 'autodeco[report]'.") from None
    environment: Any = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return str(environment.from_string(_PAGE).render(document=document, image=_image))


def _image(figure: Figure | Table) -> str:
    assert isinstance(figure, Figure)
    return "data:image/svg+xml;base64," + base64.b64encode(figure.svg.encode()).decode()
