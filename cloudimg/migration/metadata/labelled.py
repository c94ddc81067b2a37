"""`LabelledImage`: an image of OME-Zarr, as labels that are written beside it need it. Pure.

Labels are an image of their own in the group "labels" of the image. They have its coordinate
system, and as many levels (https://ngff.openmicroscopy.org/0.5/#labels-md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from cloudimg.errors import ArgumentError
from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.plan.axes_mapping import AxesMapping

LABELLED = "../../"
"""Path from an image of labels to the image that it labels."""
_MAY_BE_ABSENT = ("t", "c")
_NAME = re.compile(r"(?!\.|__|\s|zarr\.json$)[^/\\\x00-\x1f]{1,200}")
_EXTENSION = re.compile(r"(\.ome)?\.\w{1,5}$")
_FIELD = re.compile(
    r"((?<![A-Za-z0-9])[A-Za-z]{1,3})?\{[^}]*\}([A-Za-z](?![A-Za-z]))?|[*?]+|\[[^\]]*\]"
)
"""A field with the letters beside it that name its axis, or what a glob leaves open."""
_SEPARATORS = re.compile(r"([_. -])[_. -]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImage:
    """An image of OME-Zarr, by its metadata."""

    url: str
    """Where it is, for messages."""
    zarr_format: int
    dims: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    """Shape of each level."""
    scales: Mapping[str, tuple[float, str | None]]
    """As `ImageFacts.scales`."""
    origins: Mapping[str, float]
    """As `ImageFacts.origins`."""

    @classmethod
    def of(
        cls,
        url: str,
        zarr_format: int,
        multiscale: Mapping[str, Any],
        shapes: Sequence[Sequence[int]],
    ) -> Self:
        """The image that an entry of ``multiscales`` and the shapes of its arrays describe.

        Raises
        ------
        KeyError, TypeError, ValueError, IndexError
            If it is not metadata of OME-Zarr 0.4 or 0.5.
        """
        axes = [(str(axis["name"]), axis.get("unit")) for axis in multiscale["axes"]]
        if any(len(shape) != len(axes) or min(shape) < 1 for shape in shapes):
            raise ValueError("its arrays have other axes")
        scale, origin = _coordinates(multiscale, len(axes))
        scales = {
            name: (size, unit)
            for (name, unit), size in zip(axes, scale, strict=True)
            if unit is not None or size != 1
        }
        return cls(
            url=url,
            zarr_format=zarr_format,
            dims=tuple(name for name, _ in axes),
            shapes=tuple(tuple(map(int, shape)) for shape in shapes),
            scales=scales,
            origins={name: at for (name, _), at in zip(axes, origin, strict=True) if at},
        )

    def factors(self) -> list[dict[str, int]]:
        """By step from level to level, factors with which labels get levels like the image's.

        Raises
        ------
        ArgumentError
            If a level has not the size that a whole number of pixels gives, rounded up or down.
        """
        return [self._step(level) for level in range(1, len(self.shapes))]

    def _step(self, level: int) -> dict[str, int]:
        below, above = self.shapes[level - 1], self.shapes[level]
        step = {}
        for dim, n, m in zip(self.dims, below, above, strict=True):
            factor = max(1, round(n / m))
            if dim != "c" and m not in (n // factor, -(-n // factor)):
                raise ArgumentError(
                    f"level {level} of {self.url} has {m} pixels along {dim}, and the level below"
                    f" it {n}: labels cannot have such levels, since each of their levels takes"
                    " whole blocks of pixels"
                )
            if dim != "c" and factor > 1:
                step[dim] = factor
        return step

    def check(self, axes_mapping: AxesMapping, dtype: np.dtype[Any]) -> None:
        """Check that pixels can be labels of the image.

        Raises
        ------
        ArgumentError
            If they are not integers, or have channels, or another shape than the image.
        """
        if dtype.kind not in "iub":
            raise ArgumentError(
                f"labels are integers, and the pixels are {dtype.name}: convert them to integers"
            )
        own = dict(zip(axes_mapping.source_dims, axes_mapping.source_shape, strict=True))
        if "s" in own:
            raise ArgumentError(
                f"labels have one number a pixel, and the source has {own['s']} samples"
            )
        if "c" in own:
            raise ArgumentError(
                f"labels have no channels, and the source has {own['c']} along c: choose one with"
                ' select={"c": 0}'
            )
        image = dict(zip(self.dims, self.shapes[0], strict=True))
        needed = [dim for dim, n in image.items() if dim not in _MAY_BE_ABSENT and n > 1]
        fits = all(image.get(dim) == n for dim, n in own.items())
        if not fits or not all(dim in own for dim in needed):
            raise ArgumentError(
                f"labels have the shape of their image, whose axes t and c they may lack:"
                f" {self.url} has {image}, and the source {own}",
                url=self.url,
            )

    def facts_of_labels(self, facts: ImageFacts, dims: Sequence[str]) -> ImageFacts:
        """The facts of labels: in the coordinate system of the image, whatever theirs was.

        Parameters
        ----------
        facts : ImageFacts
            What the source of the labels says.
        dims : sequence of str
            Their axes.
        """
        scales = {dim: self.scales[dim] for dim in dims if dim in self.scales}
        other = [
            f"{dim} {_shown(facts.scales[dim])} instead of {_shown(scales.get(dim, (1.0, None)))}"
            for dim in dims
            if dim in facts.scales and not _is_same(facts.scales[dim], scales.get(dim))
        ]
        note = (
            "the source of the labels states other distances between pixels than the image:"
            f" {', '.join(other)}. The labels have those of the image, since their pixels are its"
            " pixels"
        )
        return replace(
            facts,
            scales=scales,
            origins={dim: self.origins[dim] for dim in dims if dim in self.origins},
            image_origins={},
            units={},
            label_of=LABELLED,
            notes=(*facts.notes, *([note] if other else [])),
        )


def _coordinates(multiscale: Mapping[str, Any], n: int) -> tuple[list[float], list[float]]:
    """Scale and translation of level 0. Transformations of all levels apply after its own."""
    scale, origin = [1.0] * n, [0.0] * n
    for each in (
        *multiscale["datasets"][0]["coordinateTransformations"],
        *multiscale.get("coordinateTransformations", ()),
    ):
        if each["type"] == "scale":
            factors = list(map(float, each["scale"]))
            scale = [a * b for a, b in zip(scale, factors, strict=True)]
            origin = [a * b for a, b in zip(origin, factors, strict=True)]
        elif each["type"] == "translation":
            shifts = map(float, each["translation"])
            origin = [a + b for a, b in zip(origin, shifts, strict=True)]
    return scale, origin


def _is_same(own: tuple[float, str | None], image: tuple[float, str | None] | None) -> bool:
    if image is None:
        return own == (1.0, None)
    return own[1] == image[1] and bool(np.isclose(own[0], image[0], rtol=1e-4, atol=0))


def _shown(scale: tuple[float, str | None]) -> str:
    size, unit = scale
    return f"{size:.6g} {unit or 'without unit'}"


def name_of_labels(urls: Sequence[str]) -> str:
    """The name of labels from the URL of their source: its stem, without fields and extension.

    Raises
    ------
    ArgumentError
        If there is none in it.
    """
    scheme, _, path = urls[0].rpartition("://") if len(urls) == 1 else ("", "", "")
    if scheme.endswith(("http", "https")):
        path = path.partition("?")[0]  # elsewhere, ? is part of names
    parts = path.split("/")
    parts[-1] = _EXTENSION.sub("", parts[-1])
    for part in reversed(parts):
        stem = _SEPARATORS.sub(r"\1", _FIELD.sub("", part)).strip("_-. ")
        if _NAME.fullmatch(stem):
            return stem
    raise ArgumentError("the labels have no name, and the URL of their source has none: pass name=")


def check_name(name: str) -> None:
    """Check a name of labels, which is the name of their group.

    Raises
    ------
    ArgumentError
        If it is not one that a group can have
        (https://zarr-specs.readthedocs.io/en/latest/v3/core/index.html#node-names).
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ArgumentError(
            f"name={name!r} cannot be that of labels, which is the name of a folder: use letters,"
            " digits, - and _"
        )
