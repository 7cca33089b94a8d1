"""Markdown to PDF: markdown-it makes HTML of it, WeasyPrint lays that out on A4 pages."""

import html
import re
from base64 import b64encode
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from markdown_it import MarkdownIt
from markdown_it.token import Token

STYLE = Path(__file__).with_name("style.css")
FONTS = Path(mpl.get_data_path()) / "fonts" / "ttf"  # the same on every machine, and so are the page breaks
LIBRARIES = "apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0"
FILE_LINK = re.compile(r'<a href="(?!https?:|mailto:|#)[^"]*">(.*?)</a>', re.DOTALL)
MEDIA = re.compile(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}")
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>
<body>{body}</body></html>"""


class NoPdf(Exception):
    """There can be no PDF; the message says why."""


class Document(NamedTuple):
    """One of the documents, and how many pages it may have at most."""

    name: str
    most: int

    def judge(self, pages: int) -> str:
        """The number of pages in words, with a warning when there are too many."""
        count = f"{pages} page{'' if pages == 1 else 's'}"
        return f"{count}, MORE than {self.most}: shorten it" if pages > self.most else count


DOCUMENTS = (Document("design", 2), Document("output", 2), Document("evaluation", 3))


def write_pdf(source: Path, target: Path) -> int:
    """Write one document as PDF; gives the number of its pages. Raises NoPdf."""
    try:
        from weasyprint import CSS, HTML  # noqa: PLC0415 - it needs libraries of the system
        from weasyprint.text.fonts import FontConfiguration  # noqa: PLC0415
    except OSError as error:
        raise NoPdf(f"WeasyPrint needs a library that is not here ({error}): {LIBRARIES}") from error
    text = source.read_text(encoding="utf-8")
    missing = [name for name in pictures(text) if not (source.parent / name).exists()]
    if missing:
        raise NoPdf(f"{source.name} shows pictures that are not there: {', '.join(missing)}")
    fonts = FontConfiguration()
    style = CSS(string=STYLE.read_text(encoding="utf-8").replace("FONTS", FONTS.as_uri()), font_config=fonts)
    page = HTML(string=to_html(text, source.parent), base_url=f"{source.parent.resolve().as_uri()}/")
    document = page.render(stylesheets=[style], font_config=fonts)
    document.write_pdf(target)
    return len(document.pages)


def to_html(text: str, folder: Path) -> str:
    """A whole HTML page. Links to other files are plain text in it: a PDF travels without them."""
    markdown = MarkdownIt("commonmark").enable("table")
    tokens = markdown.parse(text)
    for token, following in pairwise(tokens):
        if token.type == "heading_open":
            token.attrSet("id", slug(text_of(following)))
    for image in _images(tokens):
        name = str(image.attrGet("src"))
        if name.endswith(".svg"):
            drawing = plain_svg((folder / name).read_text(encoding="utf-8"))
            image.attrSet("src", "data:image/svg+xml;base64," + b64encode(drawing.encode()).decode())
    body = FILE_LINK.sub(r"\1", markdown.renderer.render(tokens, markdown.options, {}))
    return PAGE.format(title=html.escape(title(tokens)), body=body)


def plain_svg(svg: str) -> str:
    """An SVG without what WeasyPrint does not know: colours by name, and others for the dark."""
    svg = MEDIA.sub("", svg)
    colours = dict(re.findall(r"(--[\w-]+):\s*([^;}]+?)\s*[;}]", svg))
    return re.sub(r"var\((--[\w-]+)\)", lambda found: colours.get(found[1], found[0]), svg)


def title(tokens: Sequence[Token]) -> str:
    """The text of the first heading."""
    return next((text_of(b) for a, b in pairwise(tokens) if a.type == "heading_open"), "")


def text_of(heading: Token) -> str:
    """A heading's words, without its markup."""
    return "".join(child.content for child in heading.children or ())


def slug(heading: str) -> str:
    """What a link within the document calls a heading: as on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def pictures(text: str) -> list[str]:
    """The files that a document shows."""
    return [str(image.attrGet("src")) for image in _images(MarkdownIt().parse(text))]


def _images(tokens: Sequence[Token]) -> list[Token]:
    return [child for token in tokens for child in token.children or () if child.type == "image"]
