"""`python -m eval.pdf` is `make pdf`: a PDF of each document that there is, with its number of pages."""

import sys
from pathlib import Path

from eval.pdf.documents import DOCUMENTS, NoPdf, write_pdf

DOCS = Path(__file__).parents[2] / "docs"
USAGE = "usage: python -m eval.pdf [FOLDER OF THE MARKDOWN [FOLDER OF THE PDFS]]"
FAILED = 1
WRONG_USAGE = 2


def main(arguments: list[str]) -> int:
    """Write the PDFs; gives the exit code. One that is longer than it should be is told, and no failure."""
    if len(arguments) > 2 or any(each.startswith("-") for each in arguments):
        print(USAGE, file=sys.stderr)
        return WRONG_USAGE
    docs = Path(arguments[0]) if arguments else DOCS
    out = Path(arguments[1]) if len(arguments) > 1 else docs / "pdf"
    found = [document for document in DOCUMENTS if (docs / f"{document.name}.md").exists()]
    if not found:
        print(f"make pdf: none of the documents is in {docs}/", file=sys.stderr)
        return FAILED
    out.mkdir(parents=True, exist_ok=True)
    for document in found:
        try:
            pages = write_pdf(docs / f"{document.name}.md", out / f"{document.name}.pdf")
        except NoPdf as error:
            print(f"make pdf: {error}", file=sys.stderr)
            return FAILED
        print(f"{document.name}.pdf: {document.judge(pages)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
