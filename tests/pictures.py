"""Pictures of reports/index.html -> docs/page: `.venv/bin/python tests/pictures.py`, after `make repro`.

Its beginning and its anatomy, 1,280 and 390 pixels wide, light and dark, and the first page of its print.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

from chromium import FOUND, show, started
from PIL import Image

ROOT = Path(__file__).parents[1]
PAGE, OUT = ROOT / "reports/index.html", ROOT / "docs/page"
SIZES = {1280: 1900, 390: 1600}


def save(name: str, shot: bytes) -> None:
    """In 256 colours, a third of the bytes."""
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(256).save(OUT / f"{name}.png", optimize=True)
    print(f"-> docs/page/{name}.png")


def main() -> None:
    if FOUND is None or shutil.which("pdftoppm") is None:
        sys.exit("chromium or pdftoppm is not installed: apt-get install chromium poppler-utils")
    with started() as browser:
        for width, height in SIZES.items():
            for scheme in ("light", "dark"):
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                show(page, PAGE)
                save(f"{width}-{scheme}", page.screenshot())
                page.evaluate("document.querySelector('#anatomy').scrollIntoView({behavior: 'instant'})")
                save(f"{width}-{scheme}-anatomy", page.screenshot())
        page = browser.new_page()
        show(page, PAGE)
        sheet = ["pdftoppm", "-png", "-r", "90", "-singlefile", "-"]
        save("print", subprocess.run(sheet, input=page.pdf(format="A4"), capture_output=True, check=True).stdout)


if __name__ == "__main__":
    main()
