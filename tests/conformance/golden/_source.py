"""Single functions of a repository that no index has as a package, loaded from one commit of a clone."""

import ast
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch


class Source:
    """A clone (bare or not) at a commit; its code is not imported, only the definitions asked for are run."""

    def __init__(self, clone: str | Path, commit: str):
        self.clone = Path(clone)
        self.commit = commit

    def text(self, path: str) -> str:
        command = ["git", "-C", str(self.clone), "show", f"{self.commit}:{path}"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def load(self, path: str, *names: str, **given: Any) -> SimpleNamespace:
        """The top-level functions and classes `names` of a file (or methods, "Class.method"), with torch and `given`.

        Annotations are not evaluated and decorators are dropped: they name what is not there.
        """
        wanted = []
        for node in ast.parse(self.text(path)).body:
            inner = node.body if isinstance(node, ast.ClassDef) else []
            for one in [node, *inner]:
                name = getattr(one, "name", None)
                if name in names or f"{getattr(node, 'name', '')}.{name}" in names:
                    one.decorator_list = []
                    wanted.append(one)
        future = ast.parse("from __future__ import annotations").body
        tree = ast.fix_missing_locations(ast.Module([*future, *wanted], []))
        space = {"torch": torch, "F": torch.nn.functional, **given}
        exec(compile(tree, f"{self.commit[:9]}:{path}", "exec"), space)
        return SimpleNamespace(**{k: v for k, v in space.items() if k != "__builtins__"})
