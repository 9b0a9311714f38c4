"""For MkDocs: a link to a file that is not a page of the site becomes the file's path in the repository."""

import os
import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"\[([^\]]+)\]\(([^)#:\s]+)(?:#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Replace the links of one page that lead out of the site."""
    root, here = Path(config.config_file_path).parent, Path(page.file.src_uri).parent
    pages = {file.src_uri for file in files}

    def replaced(found: re.Match[str]) -> str:
        target = os.path.normpath(here / found[2])
        place = Path(os.path.normpath(Path(config.docs_dir) / target))
        if target in pages or not place.exists():
            return found[0]  # a page, or dead: MkDocs says so
        return f"{found[1]} (`{place.relative_to(root)}`)"

    return _LINK.sub(replaced, markdown)
