"""What users install: the wheel holds the tree and nothing else, and works where nothing else is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("flow", "modules", "streaming", "launchers")
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "src", *FOLDERS)
HEAVY = ("torch", "transformers", "gradio", "fastapi", "starlette", "httpx", "pydantic", "filelock", "ray")

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Bare:
    """An environment with the wheel and nothing else, not even pip."""

    wheel: Path
    directory: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs its Python with these arguments, isolated from this process's environment and folder."""
        return subprocess.run(
            [str(self.directory / "bin" / "python"), "-I", *arguments],
            cwd=self.directory,
            env={"PATH": os.defpath, "HOME": str(self.directory)},
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    def answer(self, code: str) -> object:
        """Runs code that sets `answer`, and returns it."""
        done = self.run("-c", f"{code}\nimport json; print(json.dumps(answer))")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Bare:
    """The wheel, built from a copy of the sources (no stale build folder adds to it) and installed alone."""
    place = tmp_path_factory.mktemp("wheel")
    sources = place / "sources"
    sources.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, sources / name, symlinks=True, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, sources / name)
    execute("build", "--wheel", "--no-isolation", "--outdir", place / "dist", sources)
    (wheel,) = (place / "dist").glob("*.whl")
    environment = place / "venv"
    execute("venv", "--without-pip", environment)
    pip = ("pip", "--python", environment / "bin" / "python")
    execute(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel)
    return Bare(wheel, environment)


def execute(module: str, *arguments: str | Path) -> None:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def tree() -> set[str]:
    """The files that belong to the package, under the names by which they are installed."""
    found = {f"millrace/{path.name}" for path in (ROOT / "src" / "millrace").iterdir() if path.is_file()}
    for folder in FOLDERS:
        inside = [path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()]
        found |= {f"millrace/{path}" for path in inside if "__pycache__" not in path.parts}
    return found


class TestContents:
    def test_its_files_are_the_trees(self, bare: Bare) -> None:
        packed = {name for name in zipfile.ZipFile(bare.wheel).namelist() if name.startswith("millrace/")}
        assert sorted(tree() - packed) == [], "missing: name the package or the data in pyproject.toml"
        assert sorted(packed - tree()) == []

    def test_it_installs_one_top_level_name(self, bare: Bare) -> None:
        tops = {name.partition("/")[0] for name in zipfile.ZipFile(bare.wheel).namelist()}
        assert {top for top in tops if not top.endswith(".dist-info")} == {"millrace"}

    def test_it_carries_the_licence(self, bare: Bare) -> None:
        assert any(name.endswith("licenses/LICENSE") for name in zipfile.ZipFile(bare.wheel).namelist())


class TestImport:
    def test_the_root_loads_nothing_heavy(self) -> None:
        # In this environment, where all of them are installed and could be loaded.
        code = f"import sys, millrace; print([name for name in {HEAVY} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.stdout.strip() == "[]", done.stderr

    def test_every_public_name_resolves_without_extras(self, bare: Bare) -> None:
        code = "import millrace as m; answer = [name for name in m.__all__ if getattr(m, name) is None]"
        assert bare.answer(code) == []

    def test_every_module_imports_or_names_an_extra(self, bare: Bare) -> None:
        found = bare.answer(IMPORT_ALL)
        assert isinstance(found, dict)
        assert set(found) == modules()
        known = {None, "MissingExtra", *THIRD_PARTIES}
        assert {name: why for name, why in found.items() if why not in known} == {}
        core = ("millrace.streaming", "millrace.flow")
        assert {name: why for name, why in found.items() if why is not None and name.startswith(core)} == {}

    def test_it_changes_nothing_in_the_interpreter(self, bare: Bare) -> None:
        states = bare.answer(SIDE_EFFECTS)
        assert isinstance(states, list)
        assert states[1] == states[0]


class TestWithoutExtras:
    def test_flows_run_and_stream(self, bare: Bare) -> None:
        code = """
from millrace import Pipeline
def words(text):
    for word in text.split():
        yield word
flow = Pipeline(str.strip, words)
answer = [flow(" a b "), list(flow.stream(" a b ").text())]
"""
        assert bare.answer(code) == ["ab", ["a", "b"]]

    @pytest.mark.parametrize(
        ("code", "extra"),
        [
            ("from millrace import LocalModel; LocalModel.demo()('What is a Warp?')", "local"),
            ("from millrace import serve, step; serve(step(str), port=0)", "serve"),
            ("from millrace import chat, step; chat(step(str), port=0)", "chat"),
        ],
    )
    def test_what_needs_one_names_the_pip_command(self, bare: Bare, code: str, extra: str) -> None:
        done = bare.run("-c", code)
        assert done.returncode == 1
        last = done.stderr.strip().splitlines()[-1]
        assert "MissingExtra: " in done.stderr
        assert f"pip install 'millrace[{extra}]'" in done.stderr, last

    @pytest.mark.parametrize("command", ["run", "chat", "serve"])
    def test_the_command_line_names_the_pip_command(self, bare: Bare, command: str) -> None:
        done = bare.run("-m", "millrace", command, "app:flow")
        assert done.returncode == 1
        assert (
            done.stderr == "millrace: typer is not installed; install it with: pip install 'millrace[cli]'\n"
        )


THIRD_PARTIES = {
    *(
        "bm25s",
        "fastapi",
        "filelock",
        "gradio",
        "httpx",
        "jinja2",
        "numpy",
        "pydantic",
        "rich",
        "safetensors",
    ),
    *("starlette", "tokenizers", "torch", "transformers", "typer", "uvicorn"),
}


def modules() -> set[str]:
    """The dotted names of the package's modules, `__main__` aside."""
    files = [name for name in tree() if name.endswith(".py") and not name.endswith("__main__.py")]
    return {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in files}


IMPORT_ALL = """
import importlib, pkgutil, millrace
answer = {"millrace": None}
def walk(package):
    for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if found.name.endswith("__main__"):
            continue
        try:
            module = importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            answer[found.name] = error.name.partition(".")[0]
        except ImportError as error:
            answer[found.name] = type(error).__name__
        else:
            answer[found.name] = None
            if found.ispkg:
                walk(module)
walk(millrace)
"""

SIDE_EFFECTS = """
import asyncio, builtins, logging, os, signal, sys, threading, warnings
def state():
    return {
        "builtins": sorted(vars(builtins)),
        "signals": {str(number): str(signal.getsignal(number)) for number in signal.valid_signals()},
        "environment": dict(os.environ),
        "hooks": [str(hook) for hook in (sys.excepthook, sys.displayhook, sys.unraisablehook)],
        "thread hook": str(threading.excepthook),
        "path": sys.path,
        "finders": [str(finder) for finder in sys.meta_path],
        "handlers": [str(handler) for handler in logging.getLogger().handlers],
        "warnings": [str(entry) for entry in warnings.filters],
        "threads": [thread.name for thread in threading.enumerate()],
        "policy": type(asyncio.get_event_loop_policy()).__name__,
        "folder": os.getcwd(),
    }
before = state()
import millrace
for name in millrace.__all__:
    getattr(millrace, name)
answer = before, state()
"""
