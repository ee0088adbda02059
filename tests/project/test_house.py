"""The rules of the house: where things stand, what they are called, how they import each other."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import millrace

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("flow", "modules", "streaming", "launchers")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LONGEST = 400


def package_files() -> list[Path]:
    """The package's own Python files, each once, not through the links."""
    inside = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return sorted([*inside, *(ROOT / "src" / "millrace").glob("*.py")])


def committed_files() -> list[Path]:
    """What git tracks, or would track: no ignored file."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


class TestRoot:
    def test_all_is_sorted_and_each_name_once(self) -> None:
        assert list(millrace.__all__) == in_order(millrace.__all__)

    def test_each_name_is_there(self) -> None:
        assert [public for public in millrace.__all__ if getattr(millrace, public, None) is None] == []

    def test_an_unknown_name_is_an_attribute_error(self) -> None:
        with pytest.raises(AttributeError, match="no_such_name"):
            millrace.no_such_name  # noqa: B018

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("Overloaded", "from millrace.streaming import Overloaded"),
            ("TextDelta", "from millrace.streaming import TextDelta"),
            ("hooks", "from millrace.flow import hooks"),
            ("Retry", "from millrace.flow.policies import Retry"),
            ("Engine", "from millrace.modules.local import Engine"),
            ("pipeline", "it is written Pipeline"),
            ("ARG", "it is written arg"),
        ],
    )
    def test_a_name_that_lives_elsewhere_is_said_where(self, name: str, message: str) -> None:
        with pytest.raises(ImportError, match=message):
            exec(f"from millrace import {name}")
        with pytest.raises(ImportError, match=message):
            getattr(millrace, name)

    def test_type_checkers_are_told_the_same_names(self) -> None:
        module = tree(ROOT / "src" / "millrace" / "__init__.py")
        told = {
            alias.asname or alias.name
            for block in module.body
            if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
            for statement in ast.walk(block)
            if isinstance(statement, ast.ImportFrom)
            for alias in statement.names
        }
        assert set(millrace.__all__) - {"__version__"} <= told

    def test_the_version_is_the_projects(self) -> None:
        assert millrace.__version__ == PYPROJECT["project"]["version"]


class TestFiles:
    @pytest.mark.parametrize("folder", FOLDERS)
    def test_each_folder_is_linked_into_the_package(self, folder: str) -> None:
        link = ROOT / "src" / "millrace" / folder
        assert link.is_symlink()
        assert os.readlink(link) == f"../../{folder}"

    def test_there_are_no_other_links(self) -> None:
        links = [name(path) for path in (ROOT / "src").rglob("*") if path.is_symlink()]
        assert sorted(links) == sorted(f"src/millrace/{folder}" for folder in FOLDERS)

    def test_setuptools_is_told_every_package(self) -> None:
        folders = {path.parent.relative_to(ROOT) for path in package_files()} - {Path("src/millrace")}
        expected = {"millrace", *(".".join(("millrace", *folder.parts)) for folder in folders)}
        settings = PYPROJECT["tool"]["setuptools"]
        assert set(settings["packages"]) == expected
        assert set(settings["package-dir"]) == expected

    @pytest.mark.parametrize("path", package_files(), ids=name)
    def test_every_folder_with_code_is_a_package(self, path: Path) -> None:
        assert (path.parent / "__init__.py").exists()

    @pytest.mark.parametrize("path", package_files(), ids=name)
    def test_no_file_hides_a_standard_module_or_a_public_name(self, path: Path) -> None:
        if path.stem not in ("__init__", "__main__"):
            assert path.stem not in sys.stdlib_module_names
            assert path.stem not in millrace.__all__

    @pytest.mark.parametrize("path", package_files(), ids=name)
    def test_no_file_is_too_long(self, path: Path) -> None:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= LONGEST, "is there a second noun inside? give it a file of its own"

    def test_no_file_names_a_folder_of_one_machine(self) -> None:
        homes = "|".join(("home", "Users", "root", "work"))
        somewhere = re.compile(rf"(?<![\w.:/-])/(?:{homes})/\w+|/opt/wheels\b|/tmp/\w+_jobs")
        found = []
        for path in committed_files():
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue  # weights, pictures
            if path != Path(__file__):
                found += [f"{name(path)}: {match[0]}" for match in somewhere.finditer(text)]
        assert found == []


class TestImports:
    @pytest.mark.parametrize("path", package_files(), ids=name)
    def test_inside_the_package_they_are_relative(self, path: Path) -> None:
        absolute = set(imported(tree(path))) & {*FOLDERS, *({"millrace"} - {path.parent.name})}
        assert absolute == set(), "write `from ..streaming.errors import ...`"

    def test_nobody_else_imports_a_folder_by_its_bare_name(self) -> None:
        outside = [path for path in committed_files() if path.suffix == ".py" and path not in package_files()]
        assert [name(path) for path in outside if set(imported(tree(path))) & set(FOLDERS)] == []

    @pytest.mark.parametrize("path", package_files(), ids=name)
    def test_all_is_sorted_and_defined(self, path: Path) -> None:
        module = tree(path)
        listed = declared_all(module)
        if listed is None or path == ROOT / "src" / "millrace" / "__init__.py":
            return
        assert listed == in_order(listed)
        lazy = "__getattr__" in defined(module)
        assert lazy or set(listed) <= defined(module)


def in_order(names: list[str]) -> list[str]:
    """The names once each, as ruff sorts `__all__`: constants, then classes, then the rest."""
    return sorted(set(names), key=lambda name: (not name.isupper(), not name[0].isupper(), name))


def imported(module: ast.Module) -> Iterator[str]:
    """The top-level names of the absolute imports of a file."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def declared_all(module: ast.Module) -> list[str] | None:
    """The value of `__all__`, where the file has one."""
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return None


def defined(module: ast.Module) -> set[str]:
    """The names that a file binds at its top level, also under `if` and `try`."""
    found: set[str] = set()
    for node in ast.walk(module):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.Name(ctx=ast.Store()):
                found.add(node.id)
            case ast.Import() | ast.ImportFrom():
                found |= {alias.asname or alias.name for alias in node.names}
    return found


class TestVersions:
    CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")

    def pinned(self) -> dict[str, str]:
        lines = [line for line in self.CONSTRAINTS.splitlines() if line and not line.startswith("#")]
        return dict(line.split("==") for line in lines)

    def test_every_line_is_one_public_version(self) -> None:
        wrong = [
            line
            for line in self.CONSTRAINTS.splitlines()
            if not line.startswith("#") and not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line)
        ]
        assert wrong == []

    def test_every_requirement_is_pinned_within_its_range(self) -> None:
        project = PYPROJECT["project"]
        lines = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
        pinned = self.pinned()
        for requirement in map(Requirement, lines):
            if requirement.name != "millrace":
                version = pinned.get(canonicalize_name(requirement.name))
                assert version is not None, f"{requirement} is not in constraints.txt; run make constraints"
                assert requirement.specifier.contains(version), f"{requirement} excludes the tested {version}"

    def test_the_core_needs_little(self) -> None:
        names = {Requirement(line).name for line in PYPROJECT["project"]["dependencies"]}
        assert names == {"httpx", "filelock"}
