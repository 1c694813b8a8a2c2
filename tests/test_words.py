"""Every word of a public class name is explained in docs/words.md, or listed there as plain."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from structure import read_modules

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "words.md"
PLAIN = "## Plain words"
WRITTEN_TOGETHER = {"ViT": "Vit", "ResNet": "Resnet", "DType": "Dtype"}


def words_of(name: str) -> list[str]:
    """Split CamelCase without digits: "DPSgdFront" is dp, sgd, front; H5Rows is rows."""
    for written, word in WRITTEN_TOGETHER.items():
        name = name.replace(written, word)
    parts = re.findall(
        r"[A-Z]+(?=[A-Z][a-z])|[A-Z][a-z]+|[A-Z]+|[a-z]+", re.sub(r"\d+(?:x\d+)?", "", name)
    )
    return [part.lower() for part in parts if len(part) > 1]


def used_words() -> dict[str, set[str]]:
    """Return words of public class names, each with the classes it stands in."""
    used: dict[str, set[str]] = {}
    for module in read_modules(ROOT).values():
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                for word in words_of(node.name):
                    used.setdefault(word, set()).add(node.name)
    return used


def known_words() -> set[str]:
    """Return words of the first column of the page's tables, and of the block of plain words."""
    tables, _, plain = PAGE.read_text(encoding="utf-8").partition(PLAIN)
    rows = re.findall(r"^\|([^|]+)\|", tables, flags=re.MULTILINE)
    listed = re.findall(r"```\n(.*?)```", plain, flags=re.DOTALL)
    text = " ".join([*rows, *listed]).lower()
    # "hand-off" of the page is Handoff in a class name.
    return set(re.findall(r"[a-z]+", text)) | set(re.findall(r"[a-z]+", text.replace("-", "")))


def known(word: str, words: set[str]) -> bool:
    return word in words or (word.endswith("s") and word[:-1] in words)


def test_every_word_of_a_class_name_stands_in_the_page() -> None:
    words = known_words()
    missing = [
        f"{word} ({', '.join(sorted(names))})"
        for word, names in sorted(used_words().items())
        if not known(word, words)
    ]
    assert not missing, f"not in {PAGE.name}: {'; '.join(missing)}"
