"""The image of scheduler and workers: packages that the project accepts, and no root in it."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ROOT / "terraform/image"
PYTHON = "3.12"


def pins() -> dict[str, str]:
    lines = (IMAGE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    found: dict[str, str] = {}
    for line in lines:
        if line.startswith("#"):
            continue
        match = re.fullmatch(
            r"([A-Za-z0-9][A-Za-z0-9._-]*)==([0-9][A-Za-z0-9.+!]*) --hash=sha256:[0-9a-f]{64}", line
        )
        assert match, f"no exact version and hash: {line!r}"
        name = canonicalize_name(match[1])
        assert name not in found, f"twice: {name}"
        found[name] = match[2]
    return found


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def wanted(extras: Sequence[str]) -> Iterator[Requirement]:
    """What the project needs in the image, extras that name extras of its own resolved."""
    lists = [project()["dependencies"]]
    lists += [project()["optional-dependencies"][extra] for extra in extras]
    for text in (each for some in lists for each in some):
        requirement = Requirement(text)
        if requirement.name == project()["name"]:
            yield from wanted(sorted(requirement.extras))
        else:
            yield requirement


def applies(requirement: Requirement) -> bool:
    environment = default_environment() | {
        "python_version": PYTHON,
        "python_full_version": f"{PYTHON}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
    }
    return requirement.marker is None or requirement.marker.evaluate({**environment, "extra": ""})


@pytest.mark.parametrize("extra", [None, "cluster", "gcp"])
def test_the_image_has_what_the_project_needs_in_versions_it_accepts(
    extra: str | None,
) -> None:
    found = pins()
    for requirement in filter(applies, wanted([extra] if extra else [])):
        version = found.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in the image"
        assert requirement.specifier.contains(version), f"{requirement} is not met by {version}"


def test_dask_and_distributed_are_of_one_version() -> None:
    found = pins()
    assert found["dask"] == found["distributed"]


def instructions() -> list[tuple[str, str]]:
    text = (IMAGE / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [
        (word.upper(), rest.strip()) for word, _, rest in (x.partition(" ") for x in lines if x)
    ]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    start = max(i for i, (word, _) in enumerate(found) if word == "FROM")
    return found[start:]


def test_the_base_images_are_pinned_and_have_the_python_of_the_packages() -> None:
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert set(bases) == {"python:${PYTHON_TAG}"}, (
        "stages of other images could have another Python"
    )
    (default,) = [rest for word, rest in instructions() if word == "ARG"]
    match = re.fullmatch(r"PYTHON_TAG=(\d+\.\d+)\.\d+-slim-[a-z]+", default)
    assert match, f"not pinned to a patch release: {default}"
    assert match[1] == PYTHON
    assert SpecifierSet(project()["requires-python"]).contains(PYTHON)


def test_it_runs_as_a_numbered_user_who_is_not_root() -> None:
    user = [rest for word, rest in last_stage() if word == "USER"][-1]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user), user


def test_it_becomes_a_machine_of_a_job_without_a_shell() -> None:
    entry = [rest for word, rest in last_stage() if word == "ENTRYPOINT"]
    assert [json.loads(each) for each in entry] == [["python", "-m", "cloudimg.cluster.node"]]
    assert not [rest for word, rest in last_stage() if word in ("CMD", "SHELL", "RUN")]
    assert (ROOT / "cloudimg/cluster/node.py").is_file()


def test_what_is_copied_is_there_and_is_the_project_alone() -> None:
    sources: list[str] = []
    for word, rest in instructions():
        assert word != "ADD"
        words = shlex.split(rest)
        if word == "COPY" and not any(each.startswith("--from=") for each in words):
            sources += [each for each in words[:-1] if not each.startswith("--")]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
    readme = project()["readme"]  # the wheel cannot be built without it
    assert {"pyproject.toml", readme, "cloudimg/"} <= set(sources)
    assert not {".", "./", "*"} & set(sources), "this could carry secrets that lie in the folder"


def test_every_package_that_is_installed_is_pinned() -> None:
    """By a list of versions, or named with one; and nothing that pip finds needed beyond it."""
    text = " && ".join(rest for word, rest in instructions() if word == "RUN")
    installs = [each for each in text.split("&&") if " install " in each]
    assert installs
    for each in installs:
        words = shlex.split(each.split(" install ", 1)[1])
        assert "--no-deps" in words, each
        named = [word for word in words if not word.startswith(("-", "/"))]
        assert all(re.fullmatch(r"[a-z-]+==[0-9.]+", word) for word in named), named


def test_what_must_be_writable_is_a_volume() -> None:
    """With a read-only root file system, /tmp would be root's alone on Fargate."""
    assert 'VOLUME ["/tmp"]' in (IMAGE / "Dockerfile").read_text(encoding="utf-8")
