"""Write docs/reference: one Markdown page for each public module, from its docstrings and annotations.

    python docs/generate_reference.py [DESTINATION]

Nothing is imported: the source is parsed, so a page appears also where a library is absent. Public is what has no
leading underscore; an entry without a docstring is left out, except for the fields of a value.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
ROOTS = (PROJECT / "roamroute", *sorted((PROJECT / "adapters").glob("roamroute_*")))

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules() -> Iterator[tuple[str, Path]]:
    """Every public module with its dotted name, in alphabetical order."""
    for root in ROOTS:
        for path in sorted(root.rglob("*.py")):
            parts = [root.name, *path.relative_to(root).with_suffix("").parts]
            if parts[-1] == "__init__":
                parts.pop()
            if not any(part.startswith("_") for part in parts):
                yield ".".join(parts), path


def is_public(name: str) -> bool:
    """Tell whether a reader may rely on the name."""
    return not name.startswith("_")


def signature(function: Function) -> str:
    """A function's name, parameters and result, as in the source, without `self`."""
    parameters = ast.unparse(function.args)
    for receiver in ("self", "cls"):
        parameters = "" if parameters == receiver else parameters.removeprefix(f"{receiver}, ")
    result = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    prefix = "async " if isinstance(function, ast.AsyncFunctionDef) else ""
    return f"{prefix}{function.name}({parameters}){result}"


def fields(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """The annotated names of a class or module, each with the text that stands below it (or none)."""
    for position, statement in enumerate(body):
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            continue
        if not is_public(statement.target.id):
            continue
        below = body[position + 1] if position + 1 < len(body) else None
        text = ""
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            text = " ".join(below.value.value.split())
        default = ""
        if isinstance(statement.value, ast.Constant | ast.UnaryOp | ast.BinOp | ast.Attribute | ast.Name):
            default = f" = {ast.unparse(statement.value)}"
        yield f"{statement.target.id}: {ast.unparse(statement.annotation)}{default}", text


def field_list(body: list[ast.stmt]) -> Iterator[str]:
    """The fields as a Markdown list."""
    for declaration, text in fields(body):
        yield f"- `{declaration}`" + (f": {text}" if text else "")


def function_page(function: Function, level: int) -> Iterator[str]:
    """One function or method."""
    text = ast.get_docstring(function)
    if text and is_public(function.name):
        yield from (f"{'#' * level} `{signature(function)}`", "", text, "")


def class_page(definition: ast.ClassDef) -> Iterator[str]:
    """One class: its contract, its fields, its public methods."""
    bases = ", ".join(ast.unparse(base) for base in definition.bases)
    yield from (f"## class `{definition.name}{f'({bases})' if bases else ''}`", "")
    if text := ast.get_docstring(definition):
        yield from (text, "")
    listed = list(field_list(definition.body))
    if listed:
        yield from (*listed, "")
    for statement in definition.body:
        if isinstance(statement, Function):
            yield from function_page(statement, 3)


def module_page(name: str, tree: ast.Module) -> Iterator[str]:
    """One module, in the order of its source."""
    yield from (f"# {name}", "")
    if text := ast.get_docstring(tree):
        yield from (text, "")
    listed = list(field_list(tree.body))
    if listed:
        yield from (*listed, "")
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef) and is_public(statement.name):
            yield from class_page(statement)
        elif isinstance(statement, Function):
            yield from function_page(statement, 2)


def main(arguments: list[str]) -> int:
    """Write all pages and an index; remove the pages of modules that are gone."""
    destination = Path(arguments[0]) if arguments else PROJECT / "docs" / "reference"
    destination.mkdir(parents=True, exist_ok=True)
    for old in destination.glob("*.md"):
        old.unlink()
    index = ["# Reference", "", "Made from the docstrings by `make docs`.", ""]
    count = 0
    for name, path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        (destination / f"{name}.md").write_text("\n".join(module_page(name, tree)).rstrip() + "\n", encoding="utf-8")
        summary = (ast.get_docstring(tree) or "").split("\n\n", 1)[0]
        index.append(f"- [{name}]({name}.md): {' '.join(summary.split())}")
        count += 1
    (destination / "index.md").write_text("\n".join(index) + "\n", encoding="utf-8")
    print(f"{count} pages in {destination}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
