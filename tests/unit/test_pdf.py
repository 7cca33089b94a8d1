"""Documents as PDF: the same text, the right number of pages, the pictures, and nothing of this machine."""

import zlib
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from pypdf import PdfReader

from eval.pdf.__main__ import DOCS, main
from eval.pdf.documents import DOCUMENTS, Document, NoPdf, pictures, plain_svg, slug, to_html, write_pdf

TEXT = """# The *one* idea

![a picture](images/plot.png)
![a drawing](images/drawing.svg)

See [another file](other.md#part), [a part of this one](#numbers--more) and [a page](https://example.org/).

## Numbers & more

| replica | orders |
|---|---|
| `order-1` | 1,234 |
"""
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 50"><style>
svg { --back: #fbfaf7; --ink: #1f2328; }
@media (prefers-color-scheme: dark) { svg { --back: #14181d; } }
rect { fill: var(--back); stroke: var(--ink); }
</style><rect width="90" height="40"/></svg>"""


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder with one document and its pictures. Skips when there is no PDF to be had here."""
    try:
        pass
    except OSError as error:
        pytest.skip(f"WeasyPrint needs a library of the system that is not here: {error}")
    (tmp_path / "images").mkdir()
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2])
    figure.savefig(tmp_path / "images" / "plot.png")
    (tmp_path / "images" / "drawing.svg").write_text(SVG)
    (tmp_path / "design.md").write_text(TEXT)
    return tmp_path


def text_of(path: Path) -> list[str]:
    """The text of each page, in one line."""
    return [" ".join(page.extract_text().split()) for page in PdfReader(path).pages]


def test_text_pictures_and_page_number_are_in_the_pdf(docs: Path) -> None:
    assert write_pdf(docs / "design.md", docs / "design.pdf") == 1
    (text,) = text_of(docs / "design.pdf")
    for part in ("The one idea", "another file", "Numbers & more", "replica orders", "order-1 1,234", "1 / 1"):
        assert part in text
    reader = PdfReader(docs / "design.pdf")
    assert reader.metadata is not None
    assert reader.metadata.title == "The one idea"
    page = reader.pages[0]
    assert len(page.images) == 1, "the drawing is drawn, not an image"
    assert [round(float(side) / 72 * 25.4) for side in page.mediabox[2:]] == [210, 297], "A4"


def test_every_page_has_its_number_when_there_are_several(docs: Path) -> None:
    (docs / "design.md").write_text(TEXT + "\n\nMore and more words. " * 900)
    pages = write_pdf(docs / "design.md", docs / "design.pdf")
    assert pages > 1
    assert [f"{number} / {pages}" in text for number, text in enumerate(text_of(docs / "design.pdf"), start=1)] == [
        True
    ] * pages


def test_nothing_of_this_machine_is_in_the_pdf(docs: Path) -> None:
    write_pdf(docs / "design.md", docs / "design.pdf")
    raw = (docs / "design.pdf").read_bytes()
    inflated = [_inflated(part) for part in raw.split(b"stream\n")]
    assert all(str(docs).encode() not in part for part in [raw, *inflated])
    targets = [str(note.get_object()) for note in PdfReader(docs / "design.pdf").pages[0].annotations or ()]
    assert sum("https://example.org/" in target for target in targets) == 1
    assert not any("file:" in target or "other.md" in target for target in targets)


def _inflated(part: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(part)
    except zlib.error:
        return b""


def test_pdf_is_the_same_when_it_is_made_again(docs: Path) -> None:
    write_pdf(docs / "design.md", docs / "one.pdf")
    write_pdf(docs / "design.md", docs / "two.pdf")
    assert (docs / "one.pdf").read_bytes() == (docs / "two.pdf").read_bytes()


def test_missing_picture_is_named(docs: Path) -> None:
    (docs / "images" / "plot.png").unlink()
    with pytest.raises(NoPdf, match=r"design.md shows pictures that are not there: images/plot.png"):
        write_pdf(docs / "design.md", docs / "design.pdf")


def test_page_counts_are_told_and_a_long_document_warned_about(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (docs / "output.md").write_text("# Output" + "\n\nMore and more words. " * 2_000)
    assert main([str(docs), str(docs / "pdf")]) == 0
    design, output = capsys.readouterr().out.splitlines()
    assert design == "design.pdf: 1 page"
    assert output.endswith("MORE than 2: shorten it")
    assert {each.name for each in (docs / "pdf").iterdir()} == {"design.pdf", "output.pdf"}


def test_documents_of_this_repository_can_be_made(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(DOCS), str(docs / "pdf")]) == 0, capsys.readouterr().err
    for path in (docs / "pdf").iterdir():
        pages = text_of(path)
        assert f"{len(pages)} / {len(pages)}" in pages[-1]


def test_folder_without_documents_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "none of the documents" in capsys.readouterr().err
    assert main(["--help"]) == 2


@pytest.mark.parametrize(("pages", "words"), [(1, "1 page"), (2, "2 pages"), (3, "3 pages, MORE than 2: shorten it")])
def test_document_is_judged_by_its_pages(pages: int, words: str) -> None:
    assert Document("design", most=2).judge(pages) == words
    assert [(each.name, each.most) for each in DOCUMENTS] == [("design", 2), ("output", 2), ("evaluation", 3)]


def test_colours_stand_in_their_places_when_an_svg_names_them() -> None:
    plain = plain_svg(SVG)
    assert "rect { fill: #fbfaf7; stroke: #1f2328; }" in plain
    assert "#14181d" not in plain


def test_links_within_the_document_lead_to_its_headings(tmp_path: Path) -> None:
    page = to_html("# A\n\n[there](#numbers--more) [file](x.md) `<b>`\n\n## Numbers & more", tmp_path)
    assert slug("Numbers & more") == "numbers--more"
    assert '<a href="#numbers--more">there</a> file <code>&lt;b&gt;</code>' in page
    assert '<h2 id="numbers--more">' in page
    assert pictures(TEXT) == ["images/plot.png", "images/drawing.svg"]
