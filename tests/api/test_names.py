"""Public names: reachable after ``import cloudimg``, listed, documented."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest

import cloudimg


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "Estimate", "Image", "Migration", "Preview", "Verification", "cluster.check",
        "cluster.connect", "cluster.down", "cluster.start", "cluster.status", "cluster.up",
        "errors.StorageError", "info", "migrate", "open", "preview", "register_format", "verify",
    ],
)  # fmt: skip
def test_a_name_is_reachable_right_after_the_import(name: str) -> None:
    """In a process of its own: another test may have imported the module before."""
    code = f"import cloudimg\nassert cloudimg.{name} is not None\nprint(cloudimg.{name})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_all_public_names_exist_and_are_documented() -> None:
    for name in cloudimg.__all__:
        value: Any = getattr(cloudimg, name)
        assert getattr(cloudimg, name) is value
        if name != "__version__":
            assert inspect.getdoc(value), name
        if name == "Advance" or isinstance(value, type):
            assert value.__module__.startswith("cloudimg."), name
    assert dir(cloudimg) == sorted(cloudimg.__all__)
    assert set(cloudimg._MODULES) == set(cloudimg.__all__) - {"__version__", "cluster", "errors"}


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="module 'cloudimg' has no attribute 'opne'"):
        cloudimg.opne  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    "result", ["Advance", "Estimate", "File", "LevelInfo", "Migration", "Note", "Preview",
               "Problem", "Verification"]
)  # fmt: skip
def test_fields_of_results_are_documented(result: str) -> None:
    """Each field is followed by a string that says what it holds."""
    import ast
    import textwrap

    source = textwrap.dedent(inspect.getsource(getattr(cloudimg, result)))
    (cls,) = ast.parse(source).body
    assert isinstance(cls, ast.ClassDef)
    for field, following in zip(cls.body, [*cls.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign):
            assert isinstance(following, ast.Expr), f"{result}.{ast.unparse(field.target)}"
