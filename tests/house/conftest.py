"""The pages that people read: the READMEs, CONTRIBUTING.md and docs/."""

import pytest


@pytest.fixture(scope="session")
def pages(request):
    """Each page's text by its path."""
    root = request.config.rootpath
    return {path: path.read_text(encoding="utf-8") for path in sorted([*root.glob("*.md"), *root.glob("docs/*.md")])}
