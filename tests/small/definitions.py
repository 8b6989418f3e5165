"""What a Python file defines, in its order: small.py and server.py are compared by it."""

import ast
from pathlib import Path


def definitions(path: Path) -> list[str]:
    """The names of a file's functions and classes, and of methods as CLASS.METHOD."""
    names = []
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.append(node.name)
        if isinstance(node, ast.ClassDef):
            names += [
                f"{node.name}.{method.name}"
                for method in node.body
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
    return names
