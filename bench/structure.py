"""Figures of the package's structure, by one script for any two checkouts.

    python bench/structure.py                    # this checkout
    python bench/structure.py --beside ../before # another one in the column before it
    python bench/structure.py --list             # what stands behind each figure
    python bench/structure.py --draw 20 --seed 1 # names to guess the file of, and the tree

Read as text and as syntax trees; nothing of the package is imported or run.
"""

from __future__ import annotations

import argparse
import ast
import io
import random
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = "clicooper_hpc"
MOST_PARAMETERS = 7
#: Every class that has ever described what an earlier start of a run left behind.
RESTART_STATE = {
    "EarlierLife",
    "EarlierRows",
    "EarlierRun",
    "History",
    "KeptRows",
    "LedgerSnapshot",
    "RestartPoint",
    "Resumption",
}
#: Fields of a proof that nobody but its rules compares or fills in.
PROOF_FIELDS = ("upstream", "handoff_in", "weights_in")
#: A call that turns rows of a front into released ones (clip, noise, round), by its names so far.
RELEASING = re.compile(r"\b_?releaser\.(release|release_rows)\(")
CHANNEL_CAST = re.compile(r"\bcast\(\s*\"?(Receiver|Sender|Inbound|Outbound)\b")
PRAGMAS = ("noqa", "type:", "pragma:")


@dataclass(slots=True)
class Module:
    """One source file: dotted name, text and syntax tree."""

    name: str
    text: str
    tree: ast.Module
    imports: set[str] = field(default_factory=set)

    @property
    def package(self) -> str:
        """First folder below the package, "" for files beside it."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 2 else ""


def read_modules(root: Path) -> dict[str, Module]:
    """Return all modules of the checkout ``root`` by dotted name, with what they import."""
    modules: dict[str, Module] = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        modules[name] = Module(name, text, ast.parse(text))
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
                assert node.module is not None
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    module.imports.add(inner if inner in modules else node.module)
            elif isinstance(node, ast.Import):
                module.imports |= {one.name for one in node.names if one.name in modules}
        module.imports.discard(module.name)
    return modules


def import_circles(modules: dict[str, Module]) -> list[list[str]]:
    """Return groups of modules that import each other, however late the import stands (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    circles: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in modules[name].imports:
            if other not in modules:
                continue
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group: list[str] = []
            while not group or group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                circles.append(sorted(group))

    for name in modules:
        if name not in index:
            visit(name)
    return circles


def functions_of(module: Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield qualified name and node of every function and method."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef):
                yield f"{prefix}{child.name}", child
                yield from walk(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.ClassDef):
                yield from walk(child, f"{prefix}{child.name}.")
            else:
                yield from walk(child, prefix)

    yield from walk(module.tree, "")


def parameters_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count parameters of all kinds, without ``self`` and ``cls``."""
    names = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    extra = (node.args.vararg is not None) + (node.args.kwarg is not None)
    return sum(name not in ("self", "cls") for name in names) + extra


def comment_lines(module: Module) -> int:
    """Count lines that carry a comment which is no instruction to a tool."""
    tokens = tokenize.generate_tokens(io.StringIO(module.text).readline)
    return sum(
        token.type == tokenize.COMMENT and not token.string.lstrip("#: ").startswith(PRAGMAS)
        for token in tokens
    )


def undocumented(module: Module) -> list[str]:
    """Return public classes, functions and methods without a docstring, and the module itself."""
    missing = [] if ast.get_docstring(module.tree) else [module.name]

    def walk(node: ast.Module | ast.ClassDef, prefix: str) -> None:
        for child in node.body:
            if not isinstance(child, ast.FunctionDef | ast.ClassDef):
                continue
            if child.name.startswith("_"):
                continue
            overloads = {getattr(one, "id", "") for one in child.decorator_list}
            if not ast.get_docstring(child) and "overload" not in overloads:
                missing.append(f"{prefix}{child.name}")
            if isinstance(child, ast.ClassDef):
                walk(child, f"{prefix}{child.name}.")

    walk(module.tree, f"{module.name}.")
    return missing


def doubled_classes(modules: dict[str, Module]) -> list[str]:
    """Return public class names that two packages define."""
    homes: dict[str, set[str]] = defaultdict(set)
    for module in modules.values():
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].add(module.package or module.name)
    return [f"{name}: {', '.join(sorted(at))}" for name, at in homes.items() if len(at) > 1]


def small_single_use(modules: dict[str, Module], least_lines: int = 60) -> list[str]:
    """Return modules of the same package's only importer that are shorter than ``least_lines``."""
    users: dict[str, set[str]] = defaultdict(set)
    for module in modules.values():
        for other in module.imports:
            users[other].add(module.name)
    return [
        f"{name} <- {next(iter(users[name]))}"
        for name, module in modules.items()
        if len(users[name]) == 1
        and module.text.count("\n") < least_lines
        and modules[next(iter(users[name]))].package == module.package
    ]


def matching(modules: dict[str, Module], pattern: re.Pattern[str]) -> list[str]:
    """Return ``module:line`` of every match."""
    return [
        f"{name}:{number}"
        for name, module in modules.items()
        for number, line in enumerate(module.text.splitlines(), start=1)
        if pattern.search(line)
    ]


def proof_rule_modules(modules: dict[str, Module]) -> list[str]:
    """Return the modules that name all of `PROOF_FIELDS`, but for where statements are defined."""
    return [
        name
        for name, module in modules.items()
        if not name.endswith(".statements")
        and all(re.search(rf"\b{one}\b", module.text) for one in PROOF_FIELDS)
    ]


def measure(root: Path) -> dict[str, tuple[str, list[str]]]:
    """Return every figure as text, and what stands behind it."""
    modules = read_modules(root)
    lines = sum(module.text.count("\n") for module in modules.values())
    comments = sum(map(comment_lines, modules.values()))
    functions = [
        (f"{module.name}.{name}", parameters_of(node))
        for module in modules.values()
        for name, node in functions_of(module)
    ]
    wide = [f"{name}: {count}" for name, count in functions if count > MOST_PARAMETERS]
    fan = sorted(((len(one.imports), one.name) for one in modules.values()), reverse=True)
    restart = [
        f"{module.name}.{node.name}"
        for module in modules.values()
        for node in module.tree.body
        if isinstance(node, ast.ClassDef) and node.name in RESTART_STATE
    ]
    bare = [name for module in modules.values() for name in undocumented(module)]
    large = [
        f"{name}: {len(module.text.encode())}"
        for name, module in modules.items()
        if len(module.text.encode()) > 15_000
    ]
    listed = {
        "class names in two packages": doubled_classes(modules),
        "casts of channels": matching(modules, CHANNEL_CAST),
        "kinds of restart state": restart,
        "modules with proof rules": proof_rule_modules(modules),
        "places that clip, noise and round rows, outside attacks": [
            place for place in matching(modules, RELEASING) if f"{PACKAGE}.attacks." not in place
        ],
        "import circles": [" ".join(circle) for circle in import_circles(modules)],
        "public names without a docstring": bare,
        "files above 15 kB": large,
        "files under 60 lines with one importer in their package": small_single_use(modules),
    }
    return {
        "files": (str(len(modules)), []),
        "lines": (str(lines), []),
        "functions and methods": (str(len(functions)), []),
        "largest fan-out of a module": (str(fan[0][0]), [f"{n} {name}" for n, name in fan[:25]]),
        f"functions with more than {MOST_PARAMETERS} parameters": (str(len(wide)), wide),
        "lines with a comment": (f"{comments} ({100 * comments / lines:.1f} %)", []),
        **{name: (str(len(found)), found) for name, found in listed.items()},
    }


def draw_names(root: Path, count: int, seed: int, *, methods: bool) -> list[tuple[str, list[str]]]:
    """Draw bare names of public functions (and ``methods``), each with where it is defined."""
    homes: dict[str, set[str]] = defaultdict(set)
    for module in read_modules(root).values():
        for name, _ in functions_of(module):
            is_function = "." not in name
            bare = name.rsplit(".", 1)[-1]
            if not bare.startswith("_") and (is_function or methods):
                homes[bare].add(module.name)
    names = random.Random(seed).sample(sorted(homes), count)
    return [(name, sorted(homes[name])) for name in names]


def print_draw(options: argparse.Namespace) -> None:
    """Print the tree, the drawn names, and with ``--answers`` where they stand."""
    drawn = draw_names(options.root, options.draw, options.seed, methods=options.methods)
    if not options.answers:
        for path in sorted((options.root / PACKAGE).rglob("*.py")):
            if path.name != "__init__.py":
                print(path.relative_to(options.root / PACKAGE))
        print()
    for number, (name, homes) in enumerate(drawn, start=1):
        print(f"{number:2} {name}" + (f"  {' '.join(homes)}" if options.answers else ""))


def main() -> None:
    """Print the table, or names to guess the file of."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("--beside", type=Path, help="another checkout, shown first")
    parser.add_argument("--list", action="store_true", help="what stands behind each figure")
    parser.add_argument("--draw", type=int, metavar="N", help="N function names and the tree")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--methods", action="store_true", help="draw names of methods too")
    parser.add_argument("--answers", action="store_true", help="show the files of the drawn names")
    options = parser.parse_args()
    if options.draw is not None:
        print_draw(options)
        return
    roots = [root for root in (options.beside, options.root) if root is not None]
    columns = [measure(root) for root in roots]
    for name in columns[-1]:
        print(f"{name:58}" + "".join(f"{column[name][0]:>14}" for column in columns))
        if options.list:
            print("".join(f"    {line}\n" for line in columns[-1][name][1]), end="")


if __name__ == "__main__":
    main()
