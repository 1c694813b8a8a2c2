"""Execute the cells of a notebook in one process, without a kernel: notebook_cells.py FILE."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path


def show(value: object) -> None:
    """Print what a front end would show of a value."""
    if value is None:
        return
    html = getattr(value, "_repr_html_", None)
    print(html() if html is not None else repr(value))


def main(path: Path) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]), f"cell {number}")
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"cell {number}", "exec"), names)  # noqa: S102 - the project's own
        if isinstance(last, ast.Expr):
            print(f"--- {cell['id']}")
            show(eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names))  # noqa: S307


if __name__ == "__main__":
    main(Path(sys.argv[1]))
