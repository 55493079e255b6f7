"""The README files: their texts and code blocks."""

from __future__ import annotations

import re

from helpers.programs import REPOSITORY

READMES = [
    "README.md",
    "recipes/README.md",
    *sorted(str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("ganaug/*/README.md")),
]


def readme(path: str) -> str:
    return (REPOSITORY / path).read_text("utf-8")


def code_blocks(path: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", readme(path), re.DOTALL)
