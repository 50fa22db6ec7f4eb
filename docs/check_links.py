"""Check the links of the built site: `python docs/check_links.py build/docs`.

Every link within the site has to lead to an existing file and, if it has a fragment, to
an element of that page.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """The links of a page, and the fragments that links to it can have."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fragments: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.links.append(value)
            elif name == "id" and value is not None:
                self.fragments.add(value)


def broken_links(site: Path) -> list[str]:
    """Return the broken links, each with its page."""
    # Folders with an underscore belong to the theme and contain no pages.
    paths = [*site.glob("*.html"), *site.glob("[!_]*/**/*.html")]
    pages = {path.resolve(): _Page(path) for path in sorted(paths)}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            fragment = unquote(url.fragment)
            known = target not in pages or fragment in {"", *pages[target].fragments}
            if not (target.exists() and known):
                broken.append(f"{path.relative_to(site.resolve())}: {link}")
    return broken


if __name__ == "__main__":
    site = Path(sys.argv[1])
    broken = broken_links(site)
    print(*broken, f"{len(broken)} broken links in {site}", sep="\n")
    sys.exit(bool(broken))
