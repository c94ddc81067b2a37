"""Messages of the library, and how the command line prints them."""

from __future__ import annotations

import argparse
import ast
import functools
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import cloudimg
from cloudimg.cli import messages
from cloudimg.cli.main import main
from cloudimg.cli.messages import option_names, speak_options
from cloudimg.cli.parser import parse
from cloudimg.errors import CloudimgError, StorageError

PACKAGE = Path(cloudimg.__file__).parent
SECRET = "wJalrXUtnFEMI-K7MDENG"
COMMANDS = {
    "info": ["info", "a.tif"],
    "preview": ["preview", "a.tif", "a.png"],
    "index": ["index", "a.tif", "-o", "files.parquet"],
    "migrate": ["migrate", "a.tif", "b.zarr"],
    "verify": ["verify", "b.zarr"],
    "export": ["export", "b.zarr", "out"],
    "repair": ["repair", "b.zarr"],
    "retire": ["retire", "b.zarr", "--undo"],
}


def spoken(command: str, text: str, *verbatim: str) -> str:
    return speak_options(text, option_names(parse(COMMANDS[command])), verbatim)


@pytest.mark.parametrize(
    ("command", "library", "printed"),
    [
        (
            "migrate",
            '1 file of the grid is missing: c=1 t=5; pass missing="fill" (and fill_value=) to'
            " read them as a constant, or narrow the pattern",
            "1 file of the grid is missing: c=1 t=5; pass --missing fill to read them as a"
            " constant, or narrow the pattern",
        ),
        (
            "info",
            'pass missing="fill" to read them as a constant, or a list, [url], to read this file'
            " alone",
            "pass --missing fill to read them as a constant",
        ),
        ("info", "series=7, but a.tif has 1 image", "--series 7, but a.tif has 1 image"),
        (
            "info",
            "series=-1 must be 0 or a positive integer",
            "--series -1 must be 0 or a positive integer",
        ),
        (
            "info",
            'Leave it out of the pattern, or pass validate="all" to list every file',
            "Leave it out of the pattern, or pass --validate all to list every file",
        ),
        (
            "info",
            'Pass place="stack" to stack them, or give the field another name',
            "Pass --place stack to stack them, or give the field another name",
        ),
        (
            "info",
            "axes= renames ['q'], but the files have ('page', 'y', 'x')",
            "--axes renames ['q'], but the files have ('page', 'y', 'x')",
        ),
        (
            "info",
            "axes={'page': 'y', 'q': 'x'} gives two axes of the files one name: ('y', 'y', 'x')",
            "--axes page=y q=x gives two axes of the files one name: ('y', 'y', 'x')",
        ),
        (
            "migrate",
            "an image needs the axes y and x: name its axes with axes= or dims=",
            "an image needs the axes y and x: name its axes with --axes",
        ),
        (
            "preview",
            'project="max" goes along z, which the image lacks; axes={"page": "z"} names its'
            " pages z",
            "--project max goes along z, which the image lacks; --axes page=z names its pages z",
        ),
        (
            "preview",
            'project="max" goes along z, which index= fixes',
            "--project max goes along z, which --index fixes",
        ),
        (
            "preview",
            'index={"z": -8}: positions along z are 0 to 6',
            "--index z=-8: positions along z are 0 to 6",
        ),
        (
            "preview",
            "more than max_bytes=1048576: level=3 takes 1.00 MiB, index={\"c\": 0} takes one"
            " channel, max_bytes=math.inf decodes it anyway",
            "more than --max-bytes 1048576: --level 3 takes 1.00 MiB, --index c=0 takes one"
            " channel, --yes decodes it anyway",
        ),
        (
            "migrate",
            "levels=3, but factors= has 1 step: pass one of the two",
            "--levels 3, but --factors has 1 step: pass one of the two",
        ),
        (
            "migrate",
            "step 2 of factors=: level 2 would be as large as the level below it",
            "step 2 of --factors: level 2 would be as large as the level below it",
        ),
        (
            "migrate",
            "Zarr 2 has no shards: leave out shards=, or use zarr_format=3",
            "Zarr 2 has no shards: leave out --shards, or use --zarr-format 3",
        ),
        ("migrate", "chunks={'q': 5, 'z': 1} is bad", "--chunks q=5,z=1 is bad"),
        (
            "migrate",
            "chunks=16 before, not given now; factors=[{'y': 2, 'x': 2}, 3] now, not given before",
            "--chunks 16 before, not given now; --factors y=2,x=2 --factors 3 now, not given"
            " before",
        ),
        ("migrate", "codec=[{'name': 'gzip'}] now", "--codec '[{\"name\": \"gzip\"}]' now"),
        ("migrate", "chunks=[1, 2] is bad", "chunks=[1, 2] is bad"),
        (
            "migrate",
            "each file holds 2 images; image 0 is copied (series= chooses it)",
            "each file holds 2 images; image 0 is copied (--series chooses it)",
        ),
        (
            "migrate",
            "codec='zstd:x': the colon must be followed by a level",
            "--codec zstd:x: the colon must be followed by a level",
        ),
        (
            "migrate",
            "codec={'configuration': {'level': {}}, 'a': '}'} has no name",
            '--codec \'{"configuration": {"level": {}}, "a": "}"}\' has no name',
        ),
        (
            "migrate",
            "max_mem='2 of them' must be a positive size such as 2**30 or \"1GB\"",
            "--max-mem '2 of them' must be a positive size such as 2**30 or \"1GB\"",
        ),
        ("migrate", "prices= names ['a']: use only put", "--price names ['a']: use only put"),
        (
            "migrate",
            "b.zarr holds an unfinished migration: pass resume=True to continue it, or"
            " overwrite=True to start over",
            "b.zarr holds an unfinished migration: leave out --no-resume to continue it, or"
            " --overwrite to start over",
        ),
        ("verify", "sample= needs against_source=True", "--sample needs --against-source"),
        (
            "verify",
            "the copy was made of an array: pass the array as against_source=",
            "the copy was made of an array: use cloudimg.verify in Python",
        ),
        (
            "verify",
            "the source's URL contained credentials: pass against_source=cloudimg.open(...)",
            "the source's URL contained credentials: use"
            " cloudimg.verify(..., against_source=cloudimg.open(...)) in Python",
        ),
        (
            "export",
            'export it with layout="ome-tiff", which writes',
            "export it with --layout ome-tiff, which writes",
        ),
        (
            "info",
            "pass storage_options={'key': ..., 'secret': ...}",
            'pass --storage-options \'{"key": "...", "secret": "..."}\'',
        ),
        (
            "migrate",
            "check that storage_options or the environment hold credentials",
            "check that --source-options or --target-options or the environment hold credentials",
        ),
        ("verify", "storage_options= must be", "--storage-options or --source-options must be"),
        (
            "preview",
            "/a b/c is a folder; cloudimg.info('/a b/c') lists it",
            "/a b/c is a folder; cloudimg info '/a b/c' lists it",
        ),
        (
            "migrate",
            "2 files are left out by exclude=['a*.tif', 'b.tif']",
            "2 files are left out by --exclude 'a*.tif' --exclude b.tif",
        ),
        # What the command does not have stays as it is.
        ("info", 'palette="index" reads indices', 'palette="index" reads indices'),
        ("info", "levels=3 overwrite=True max_mem=1", "levels=3 overwrite=True max_mem=1"),
        ("migrate", "overwrite=False, resume=True", "overwrite=False, resume=True"),
        ("migrate", "codec=<object at 0x7f>", "codec=<object at 0x7f>"),
        # Names of files, URLs and labels.
        ("migrate", "s3://b/levels=3/a.tif is no TIFF", "s3://b/levels=3/a.tif is no TIFF"),
        ("migrate", "http://h/a.tif?name=x&levels=3 is", "http://h/a.tif?name=x&levels=3 is"),
        ("migrate", "run-levels=3, x.levels=3, a,levels=3", "run-levels=3, x.levels=3, a,levels=3"),
    ],
)  # fmt: skip
def test_keywords_become_options(command: str, library: str, printed: str) -> None:
    assert spoken(command, library) == printed


def test_urls_stay_as_they_are() -> None:
    url = "/data/my levels=3/name=x.tif"
    text = f"levels=4: nothing matches {url} and levels=5"
    assert spoken("migrate", text, url) == (f"--levels 4: nothing matches {url} and --levels 5")
    assert spoken("migrate", text, url, f"{url} and levels=5") == (
        f"--levels 4: nothing matches {url} and levels=5"
    )


def test_labels_of_the_pattern_stay_as_they_are() -> None:
    args = parse(["preview", "a_{level}_{series:02d}.tif", "a.png"])
    text = 'missing: level=3 series=1; project="max"'
    assert speak_options(text, option_names(args)) == "missing: level=3 series=1; --project max"


def test_each_option_that_sets_an_argument_is_known() -> None:
    """Options whose names are those of public arguments; the others are not in messages."""
    functions: list[Any] = [
        cloudimg.open, cloudimg.preview, cloudimg.index, cloudimg.migrate, cloudimg.dry_run,
        cloudimg.verify, cloudimg.export, cloudimg.repair, cloudimg.retire,
        cloudimg.cluster.start, cloudimg.cluster.connect,
    ]  # fmt: skip
    arguments = {name for each in functions for name in inspect.signature(each).parameters}
    dests = {name for words in COMMANDS.values() for name in vars(parse(words))}
    assert (arguments & dests) - {"url", "out"} <= set(messages._KEYWORDS)
    of_stores = {"max_rate"}  # not an argument of its own, but a key of all storage options
    assert set(messages._KEYWORDS) <= arguments & dests | of_stores


# -------------------------------------------------------------------------- all messages


@functools.cache
def texts() -> list[tuple[str, str]]:
    """All string literals of the library that may be parts of messages, with where they are.

    A value in a message is replaced by a sample of it.
    """
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.parent.name in ("cli", "cluster", "flavours"):
            continue
        tree = ast.parse(path.read_text())
        documentation = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        parts = {
            id(part) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for part in n.values
        }
        for node in ast.walk(tree):
            if id(node) in documentation or id(node) in parts:
                continue
            if isinstance(node, ast.JoinedStr):
                text = "".join(map(_sample, node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value.replace("{{", "{").replace("}}", "}")  # of a template
            else:
                continue
            if " " in text:
                found.append((f"{path.relative_to(PACKAGE)}:{node.lineno}", text))
    return found


def _sample(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    return "'some text'" if part.conversion == ord("r") else "3"


def test_no_message_keeps_a_keyword_that_is_an_option() -> None:
    """On a command that has all options."""
    options = {
        name: option
        for words in COMMANDS.values()
        for name, option in option_names(parse(words)).items()
    }
    keyword = re.compile(rf"(?<![\w-])({'|'.join(options)})=")
    left = {
        where: spoken_
        for where, text in texts()
        if keyword.search(spoken_ := speak_options(text, options))
        and not where.startswith("formats/registry.py")  # register_format has arguments of its own
        and "in Python" not in spoken_
    }
    assert left == {}


def test_advice_in_other_words_is_still_in_the_library() -> None:
    everything = "\n".join(text for _, text in texts())
    for python in (*messages._IN_OTHER_WORDS, *messages._FIXED):
        assert python in everything


# ------------------------------------------------------------------------------------ end to end


@pytest.fixture
def archive(tmp_path: Path) -> str:
    for z, t in ((0, 0), (0, 1), (1, 0)):
        tifffile.imwrite(tmp_path / f"level=3_{z}_{t}.tif", np.zeros((2, 16, 24), "u1"))
    return f"{tmp_path}/level=3_{{z}}_{{t}}.tif"


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["info", "SRC", "--series", "7"], "cloudimg: error: --series 7, but "),
        (["info", "SRC", "--axes", "q=z"], "cloudimg: error: --axes renames ['q']"),
        (["preview", "SRC", "OUT.png", "--index", "z=9"], "cloudimg: error: --index z=9: "),
        (["preview", "SRC", "OUT.png", "--level", "3"], "cloudimg: error: --level 3, but "),
        (["migrate", "SRC", "OUT", "--missing", "raise"], "pass --missing fill to read them"),
        (["migrate", "SRC", "OUT", "--levels", "0"], "cloudimg: error: --levels 0 must be a"),
        (["migrate", "SRC", "OUT", "--max-mem", "2XB"], "cloudimg: error: --max-mem 2XB must be"),
        (
            ["verify", "OUT", "--sample", "3"],
            "OUT, neither a copy nor other objects: check the URL",
        ),
    ],
)
def test_commands(
    words: list[str],
    printed: str,
    archive: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"SRC": archive, "OUT": f"{tmp_path}/OUT", "OUT.png": f"{tmp_path}/OUT.png"}
    code = 4 if "--missing fill to read them" in printed else 2
    assert main([places.get(word, word) for word in words]) == code
    err = capsys.readouterr().err
    assert printed in err
    assert "--level 3_" not in err


def _raise(error: Exception) -> Any:
    def run(args: argparse.Namespace, session: object) -> None:
        raise error

    return run


def test_debug_prints_the_cause(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cause = f"ClientError: http://me:{SECRET}@host/x?sig={SECRET}\nsecond line"
    error = StorageError("the store failed", url="s3://b/k", cause=cause)
    monkeypatch.setattr("cloudimg.cli.images.info", _raise(error))
    assert main(["info", "s3://b/k"]) == 6
    assert capsys.readouterr().err == "cloudimg: error: the store failed [s3://b/k]\n"
    assert main(["info", "s3://b/k", "--debug"]) == 6
    *_, first, second, last = capsys.readouterr().err.splitlines()
    assert first == "caused by: ClientError: http://***@host/x?sig=***"
    assert second == "second line"
    assert last == "cloudimg: error: the store failed [s3://b/k]"


def test_values_of_options_are_hidden_before_messages_are_rewritten(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Quoting for a shell must not change a secret so that it is no longer recognised."""
    secret = "pa\"ss'word"
    options = '{"secret": "pa\\"ss\'word"}'
    error = CloudimgError(f'storage_options={{"secret": "{secret}"}} is refused')
    monkeypatch.setattr("cloudimg.cli.images.info", _raise(error))
    assert main(["info", "s3://b/k", "--storage-options", options]) == 1
    err = capsys.readouterr().err
    assert "word" not in err
    assert "***" in err


def test_an_unexpected_error_is_not_rewritten(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cloudimg.cli.images.info", _raise(ValueError("series=3")))
    assert main(["info", "a.tif"]) == 70
    assert "unexpected ValueError: series=3 (a bug" in capsys.readouterr().err
