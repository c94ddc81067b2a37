"""Keyword arguments of the public functions: signatures, types for users, and misspelt ones."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.errors import UnknownArgumentError
from cloudimg.migration import options as write_options
from cloudimg.migration.plan.request import WriteRequest
from cloudimg.migration.run.options import RunOptions
from cloudimg.opening import options as open_options
from cloudimg.opening.keywords import close_matches
from cloudimg.opening.options import OpenArguments


def keys(typed_dict: type) -> set[str]:
    return set(typed_dict.__annotations__)


OPEN, FILE = keys(open_options.OpenOptions), keys(open_options.FileOptions)
PLAN, RUN = keys(write_options.PlanOptions), keys(write_options.RunKeywords)
CALIBRATION = keys(write_options.CalibrationOptions)
WRITE = keys(write_options.WriteOptions)
STORES = {"source_options", "target_options"}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.arange(64 * 64, dtype=np.uint16).reshape(64, 64))
    return path


Call = Callable[[Path, dict[str, Any]], Any]
CALLS: dict[str, Call] = {
    "open": lambda path, given: cloudimg.open(path, **given),
    "imread": lambda path, given: cloudimg.imread(path, **given),
    "info": lambda path, given: cloudimg.info(str(path), **given),
    "preview": lambda path, given: cloudimg.preview(
        str(path), str(path.with_suffix(".png")), **given
    ),
    "migrate": lambda path, given: cloudimg.migrate(path, path.parent / "b.zarr", **given),
    "dry_run": lambda path, given: cloudimg.dry_run(path, **given),
    "to_zarr": lambda path, given: cloudimg.to_zarr(
        tifffile.imread(path), path.parent / "c.zarr", **given
    ),
    "Image.to_zarr": lambda path, given: cloudimg.open(path).to_zarr(
        path.parent / "d.zarr", **given
    ),
    "verify": lambda path, given: cloudimg.verify(path.parent / "b.zarr", **given),
    "export": lambda path, given: cloudimg.export(
        path.parent / "b.zarr", path.parent / "out", **given
    ),
}


@pytest.mark.parametrize(
    ("function", "misspelt", "value", "meant"),
    [
        ("open", "mising", "fill", "missing"),
        ("open", "storage_option", {}, "storage_options"),
        ("imread", "chunk", 3, "chunks"),
        ("imread", "axis", {}, "axes"),
        ("info", "serie", 0, "series"),
        ("preview", "lvl", 0, "level"),
        ("preview", "projection", "max", "project"),
        ("preview", "mising", "fill", "missing"),
        ("migrate", "overwritte", True, "overwrite"),
        ("migrate", "source_option", {}, "source_options"),
        ("migrate", "plaace", "stack", "place"),
        ("dry_run", "price", {}, "prices"),
        ("to_zarr", "chunk", 3, "chunks"),
        ("to_zarr", "identiy", "a", "identity"),
        ("Image.to_zarr", "shard", 3, "shards"),
        ("verify", "against_src", True, "against_source"),
        ("verify", "samples", 3, "sample"),
        ("export", "compresion", None, "compression"),
        ("export", "layuot", "originals", "layout"),
    ],
)
def test_a_misspelt_keyword_is_an_error_that_names_the_closest(
    function: str, misspelt: str, value: object, meant: str, image: Path
) -> None:
    before = sorted(image.parent.iterdir())
    message = rf"^{function}\(\) has no argument {misspelt}=; did you mean {meant}=\?$"
    with pytest.raises(UnknownArgumentError, match=message) as raised:
        CALLS[function](image, {misspelt: value})
    assert isinstance(raised.value, TypeError)
    assert isinstance(raised.value, ValueError)
    assert sorted(image.parent.iterdir()) == before


@pytest.mark.parametrize("function", ["migrate", "export"])
def test_all_keywords_that_are_as_close_are_named(function: str, image: Path) -> None:
    meant = r"did you mean source_options= or target_options=\?$"
    with pytest.raises(UnknownArgumentError, match=meant):
        CALLS[function](image, {"storage_options": {}})


def test_close_matches() -> None:
    assert close_matches("colour", ["xs", "color", "colours"]) == ["colours", "color"]
    assert close_matches("ab1", ["ab2", "ab3", "ab4", "ab5"]) == ["ab2", "ab3", "ab4"]
    assert close_matches("source_option", ["target_options", "source_options"]) == [
        "source_options"
    ]
    assert close_matches("qqqq", ["color"]) == close_matches("a", []) == []


@pytest.mark.parametrize("function", list(CALLS))
def test_a_keyword_unlike_all_others_is_an_error_that_lists_them(
    function: str, image: Path
) -> None:
    public: Any = cloudimg
    for name in function.split("."):
        public = getattr(public, name)
    with pytest.raises(UnknownArgumentError, match=r"has no argument qqqq=; it has ") as raised:
        CALLS[function](image, {"qqqq": 1})
    for name in inspect.signature(public).parameters:
        if name != "self":
            assert name in str(raised.value)


@pytest.mark.parametrize("old", ["open_options", "storage_options"])
def test_former_names_of_options_are_errors(old: str, image: Path) -> None:
    for function in ("migrate", "export"):
        with pytest.raises(UnknownArgumentError, match=f"has no argument {old}="):
            CALLS[function](image, {old: {}})


def test_signatures_list_all_arguments() -> None:
    def names(function: Any) -> set[str]:
        parameters = inspect.signature(function).parameters.values()
        assert all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in parameters)
        return {p.name for p in parameters}

    assert names(cloudimg.open) == {"urls", "url"} | OPEN
    assert names(cloudimg.imread) == {"urls", "url", "chunks", "level", "name"} | OPEN
    own = {"source", "url", "segments", "source_options", "target_options"}
    assert names(cloudimg.index) == own | OPEN - {"storage_options", "listing"}
    assert names(cloudimg.info) == {"url"} | OPEN
    own = {"url", "path", "size", "level", "index", "project", "max_bytes"}
    assert names(cloudimg.preview) == own | OPEN
    assert names(cloudimg.to_zarr) == {"x", "url", "dims", "identity"} | WRITE
    assert names(cloudimg.Image.to_zarr) == {"self", "url"} | WRITE
    own = {"source", "url", "allow_unmatched", "companions", "labels_of", "part"}
    assert names(cloudimg.migrate) == own | FILE | RUN | STORES
    own |= {"interval", "settle", "until_idle", "stop_file", "stop", "say"}
    assert names(cloudimg.follow) == own | FILE | RUN | STORES
    own = {
        "source",
        "url",
        "allow_unmatched",
        "companions",
        "max_mem",
        "prices",
        "client",
        "storage_options",
    }
    own |= {"target_options", "overwrite", "yes", "resume", "probe"}
    assert names(cloudimg.dry_run) == own | FILE | PLAN | CALIBRATION


def test_signatures_show_defaults() -> None:
    parameters = inspect.signature(cloudimg.open).parameters
    for each in fields(OpenArguments):
        if each.name == "purpose":  # set by the package itself
            continue
        assert parameters[each.name].default == each.default
        assert parameters[each.name].kind is inspect.Parameter.KEYWORD_ONLY
    parameters = inspect.signature(cloudimg.migrate).parameters
    assert parameters["missing"].default == "raise"
    assert parameters["zarr_format"].default == WriteRequest().zarr_format == 3
    assert (parameters["overwrite"].default, parameters["resume"].default) == (False, True)


def test_types_for_users_have_the_arguments_that_the_code_accepts() -> None:
    assert {each.name for each in fields(OpenArguments)} == OPEN | {"purpose"}
    assert FILE | {"listing", "storage_options", "progress", "client"} == OPEN
    # The code joins sizes and their units.
    of_files = {"companions"}
    requested = PLAN | CALIBRATION - {"scale", "units"} | of_files
    assert {each.name for each in fields(WriteRequest)} == requested
    # The code takes bytes where users give a size such as "2GB"; of a finished image that stays,
    # the package itself tells.
    own = {"max_bytes", "keeps_finished"}
    accepted = {each.name for each in fields(RunOptions)} - own - {"part"} | {"max_mem"}
    assert accepted == RUN - PLAN - CALIBRATION
    assert RUN | {"labels_of", "storage_options"} == WRITE
    own = {"allow_unmatched", "companions", "labels_of", "part"}
    assert keys(write_options.MigrateOptions) == own | FILE | RUN | STORES
    assert keys(write_options.DryRunOptions) - FILE - PLAN - CALIBRATION == {
        "allow_unmatched", "client", "companions", "max_mem", "overwrite", "prices", "probe",
        "resume", "storage_options", "target_options", "yes",
    }  # fmt: skip


def test_every_argument_is_documented() -> None:
    """In the docstring of the function, or in that of the function that it refers to."""
    for function in (
        cloudimg.open, cloudimg.imread, cloudimg.info, cloudimg.preview, cloudimg.to_zarr,
        cloudimg.migrate, cloudimg.dry_run, cloudimg.index, cloudimg.verify, cloudimg.export,
        cloudimg.repair,
    ):  # fmt: skip
        doc = inspect.getdoc(function)
        assert doc is not None
        assert "\nExamples\n--------\n>>> import cloudimg\n" in doc, function
        parameters = doc.split("\nParameters\n----------\n")[1].split("\n\n")[0]
        documented = {
            name.strip()
            for line in parameters.splitlines()
            if not line.startswith(" ")
            for name in line.split(" : ")[0].split(",")
        }
        takes = set(inspect.signature(function).parameters)
        assert documented - {"**options"} <= takes, function
        of_open = OPEN | {"url"} if "**options" in documented else set()
        assert takes <= documented | of_open, function
