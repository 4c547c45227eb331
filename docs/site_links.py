"""`make docs`: what the pages link to outside docs/ comes into the site too, Markdown as pages, the rest as it is.

A link to a folder becomes text, as a site lists no folders. `mkdocs build --strict` ends with a link to nothing.
"""

import os
import posixpath
import re
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\[([^\[\]]*)\]\(([^)#:\s]+)((?:#[^)\s]*)?)\)")  # none with a colon: that is elsewhere


def target(page: str, link: str) -> str:
    """The file that a page links to, as the repository names it; `page` is as the site names it."""
    folder = posixpath.dirname(page.removeprefix("repository/") if page.startswith("repository/") else f"docs/{page}")
    return posixpath.normpath(posixpath.join(folder, link))


def place(name: str) -> str:
    """Where the site has a file of the repository."""
    return name.removeprefix("docs/") if name.startswith("docs/") else f"repository/{name}"


def on_files(files, config):
    waiting = [file.src_uri for file in files.documentation_pages()]
    while waiting:
        page = waiting.pop()
        for _, link, _ in LINK.findall(files.get_file_from_path(page).content_string):
            name = target(page, link)
            if (ROOT / name).is_file() and files.get_file_from_path(place(name)) is None:
                files.append(File.generated(config, place(name), abs_src_path=str(ROOT / name)))
                waiting += [place(name)] if name.endswith(".md") else []
    return files


def on_page_markdown(markdown, page, config, files):
    def of_the_site(found):
        words, link, part = found.groups()
        name = target(page.file.src_uri, link)
        if (ROOT / name).is_dir():
            return words
        return f"[{words}]({os.path.relpath(place(name), posixpath.dirname(page.file.src_uri) or '.')}{part})"

    return LINK.sub(of_the_site, markdown)


def on_post_build(config):
    """No page may ask for anything from elsewhere: a reader without a network sees the same, and nobody is told."""
    asks = re.compile(r"(?:src|srcset)=\"?https?:|<link [^>]*href=\"?https?:|url\([\"']?https?:|@import")
    for path in sorted(Path(config.site_dir).rglob("*")):
        if path.suffix in (".html", ".css") and (found := asks.search(path.read_text())):
            raise PluginError(f"{path} asks for something from elsewhere: {found[0]}")
