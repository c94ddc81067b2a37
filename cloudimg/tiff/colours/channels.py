"""How the channels of an image are shown: colours, contrast, and which of them at first. Pure.

Pictures are painted, and the metadata of copies is written, by these rules.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cloudimg.tiff.colours.convert import N_COLOURS
from cloudimg.tiff.colours.window import Values, Window, apart, colour_window, own_window

WHITE = "FFFFFF"
DEFAULT_COLOURS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")
"""Colours of channels without one in the file."""
MOST_SHOWN = 6
"""Number of channels that are shown together."""
_SHOWN_SAMPLES: Mapping[str, tuple[str, ...]] = {
    "rgb": ("FF0000", "00FF00", "0000FF"),
    "palette": (WHITE,),
    "gray": (WHITE,),
    "gray-inverted": (WHITE,),
    "ycbcr": (WHITE,),
    "cielab": (WHITE,),
    "icclab": (WHITE,),
    "itulab": (WHITE,),
    "cmyk": ("00FFFF", "FF00FF", "FFFF00"),
    "cmyk-inverted": ("FF0000", "00FF00", "0000FF"),
}
"""Colours of the samples of a pixel that are shown at first, by colour space: luminance alone, and
inks without black, since viewers only add colours."""
_RGBA = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownChannel:
    """How a channel is shown."""

    colour: str
    """Colour of its brightest pixels, RRGGBB."""
    is_active: bool = True
    """Whether it is shown at first."""
    is_inverted: bool = False
    """Whether the lowest value is the brightest."""
    window: Window | None = None
    """Values to show as black and as white; None if they are chosen from the pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelColours:
    """What the header of an image says of its pixels, as far as it decides how they are shown."""

    space: str = "unknown"
    """See `cloudimg.ImageAttributes.color_space`."""
    n_samples: int = 1
    """Number of samples of a pixel."""
    has_opacity: bool = False
    """Whether the last sample of a pixel is its opacity."""
    n_bits: int | None = None
    """Significant bits of unsigned pixels, if they are known."""
    ranges: tuple[Window, ...] = ()
    """Values of each channel that the writer showed as black and as white; empty if unknown."""

    @classmethod
    def of(cls, attrs: Mapping[str, Any], dtype: np.dtype[Any], n_samples: int) -> PixelColours:
        """Take them from attributes.

        Parameters
        ----------
        attrs : mapping
            See `cloudimg.ImageAttributes`.
        dtype : numpy.dtype
        n_samples : int
            Length of the axis of samples, 1 without one.
        """
        space = attrs.get("color_space", "unknown")
        if space == "unknown" and n_samples in (3, 4):
            space = "rgb"
        samples = [str(each) for each in attrs.get("samples") or ()]
        return cls(
            space=str(space),
            n_samples=n_samples,
            has_opacity=len(samples) == n_samples and samples[-1].startswith("alpha"),
            n_bits=_n_bits(attrs.get("bits_per_sample"), dtype),
            ranges=_ranges(attrs.get("display_ranges")),
        )

    def without(self, dropped: Collection[str]) -> PixelColours:
        """The same without what depends on attributes that the files of an image do not share."""
        kept = replace(self, space="unknown") if "color_space" in dropped else self
        return replace(kept, n_bits=None) if "bits_per_sample" in dropped else kept

    @property
    def _shown(self) -> Sequence[str]:
        """Colours of the samples that make up one colour; empty if samples are channels.

        Grey samples beside each other are channels, unless they are one and its opacity.
        """
        n_colours = N_COLOURS.get(self.space, self.n_samples + 1)
        has_grey = self.n_samples == 2 and self.has_opacity
        is_one = self.n_samples > 1 and (n_colours > 1 or has_grey)
        return _SHOWN_SAMPLES[self.space] if is_one and n_colours <= self.n_samples else ()

    def channels(self, n_channels: int, colours: Sequence[str] = ()) -> tuple[ShownChannel, ...]:
        """How each channel is shown, where samples are channels: those of a pixel side by side.

        Parameters
        ----------
        n_channels : int
        colours : sequence of str
            Colours that the file gives them, RRGGBB.
        """
        shown = self._shown
        if not shown or n_channels % self.n_samples:
            return self._added(n_channels, colours)
        inverted = self.space == "gray-inverted"
        samples = [ShownChannel(colour=each, is_inverted=inverted) for each in shown]
        samples += [ShownChannel(colour=WHITE, is_active=False)] * (self.n_samples - len(shown))
        further = [replace(each, is_active=False) for each in samples]
        return (*samples, *further * (n_channels // self.n_samples - 1))

    def _added(self, n_channels: int, stored: Sequence[str]) -> tuple[ShownChannel, ...]:
        """Channels that are added, each in its colour."""
        colours = chosen_colours(stored, n_channels)
        ranges: Sequence[Window | None] = self.ranges
        if len(ranges) != n_channels:
            ranges = [None] * n_channels
        opacity = self.n_samples - 1 if self.has_opacity else None
        return tuple(
            ShownChannel(
                colour=colours[i],
                is_active=i < MOST_SHOWN and i % self.n_samples != opacity,
                is_inverted=self.space == "gray-inverted",
                window=ranges[i],
            )
            for i in range(n_channels)
        )

    def windows(self, values: Sequence[Values], dtype: np.dtype[Any]) -> list[Window]:
        """Values of each channel to show as black and as white.

        Parameters
        ----------
        values : sequence of Values
            Those of each channel, as many as there are.
        dtype : numpy.dtype
        """
        channels, n_shown = self.channels(len(values)), len(self._shown)
        if n_shown > 1:
            ranges = [each.range if len(each.counts) else (0.0, 0.0) for each in values]
            is_shown = [i % self.n_samples < n_shown for i in range(len(values))]
            of_colours = [each for each, shown in zip(ranges, is_shown, strict=True) if shown]
            common = colour_window(of_colours, dtype, self.n_bits)
            return [
                common if shown else colour_window([each], dtype, self.n_bits)
                for each, shown in zip(ranges, is_shown, strict=True)
            ]
        return [self.window(*each) for each in zip(channels, values, strict=True)]

    def window(self, channel: ShownChannel, values: Values) -> Window:
        """Values of a channel that is not a part of a colour to show as black and as white."""
        if channel.window is not None:
            return channel.window
        if self.space == "palette" and len(values.counts):
            return apart(*values.range)  # indices have no brightness, but should be told apart
        return own_window(values, self.n_bits)


def chosen_colours(stored: Sequence[str], n_channels: int) -> tuple[str, ...]:
    """Colours of channels that are added.

    Those of the file are ignored if one is black or two are alike: many writers store white for
    all.
    """
    if len(stored) == n_channels == len(set(stored)) and "000000" not in stored:
        return tuple(stored)
    if n_channels == 1:
        return (WHITE,)
    return tuple(DEFAULT_COLOURS[i % len(DEFAULT_COLOURS)] for i in range(n_channels))


def rrggbb(colour: Any) -> str:
    """RRGGBB of an RGBA colour as OME stores it, a signed integer."""
    return f"{(int(colour) & _RGBA) >> 8:06X}"


def _n_bits(stated: Any, dtype: np.dtype[Any]) -> int | None:
    """Significant bits whose full range is shown: those of 8 bits, or that the header states."""
    if dtype.kind == "b":
        return 1
    if dtype.kind != "u":
        return None
    if isinstance(stated, int) and 0 < stated <= 8 * dtype.itemsize:
        return stated
    return 8 if dtype.itemsize == 1 else None


def _ranges(stated: Any) -> tuple[Window, ...]:
    """Display ranges, if all of them are usable; an array's attributes may have anything there."""
    if not isinstance(stated, list | tuple):
        return ()
    found = []
    for each in stated:
        if not isinstance(each, list | tuple) or len(each) != 2:
            return ()
        if not all(isinstance(v, int | float) and math.isfinite(v) for v in each):
            return ()
        found.append((float(each[0]), float(each[1])))
    return tuple(found) if all(low < high for low, high in found) else ()
