"""The front-ends' addresses as people write them: given one by one, or several in one text with commas between."""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

_BETWEEN = re.compile(r"\s*,\s*(?=[A-Za-z][A-Za-z0-9+.-]*://)")  # a comma may be part of a path


def addresses_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Every address once, in the order given, without a slash at its end.

    Raises ValueError for what is no address, and when there is none.
    """
    urls = [_checked(url) for text in texts for url in _BETWEEN.split(text.strip())]
    if not urls:
        raise ValueError("a client needs the address of at least one front-end")
    return tuple(dict.fromkeys(urls))


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not match, a port that is no number
        is_address = False
    else:
        is_address = is_address and not (parts.query or parts.fragment or re.search(r"[\s,]", parts.netloc))
    if not is_address:
        raise ValueError(f"{url!r} is not the address of a front-end, such as http://127.0.0.1:8000")
    return url.rstrip("/")
