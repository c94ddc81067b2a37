"""Convert the pixels of any colour space into RGB. Pure.

ICC profiles are not applied. CIE L*a*b* is shown in sRGB, its white as white.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Light = npt.NDArray[np.float32]

N_COLOURS: Mapping[str, int] = {
    "gray": 1,
    "gray-inverted": 1,
    "palette": 1,
    "rgb": 3,
    "ycbcr": 3,
    "cielab": 3,
    "icclab": 3,
    "itulab": 3,
    "cmyk": 4,
    "cmyk-inverted": 4,
}
"""Number of samples that make up a colour, by `cloudimg.ImageAttributes.color_space`."""
_AS_STORED = ("gray", "gray-inverted", "rgb")
"""Spaces whose samples keep their values, so that the contrast can be chosen from all of them."""
_OF_STORED = (
    "bits_per_sample",
    "nodata",
    "reference_black_white",
    "samples",
    "ycbcr_coefficients",
)
"""Attributes that describe samples which are not RGB."""
_LEAST_WEIGHT = 2.0**-16
"""Weight of a transparent pixel: its colour counts only among transparent ones."""

_LUMA = (0.299, 0.587, 0.114)
"""Default of YCbCrCoefficients: TIFF 6.0, section 21, from ITU-R BT.601."""
# From CIE XYZ relative to D50, the white of ICC profiles, to linear sRGB (IEC 61966-2-1) by the
# chromatic adaptation of Bradford; http://www.brucelindbloom.com/Eqn_RGB_XYZ_Matrix.html.
_SRGB_OF_XYZ = np.array(
    [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ],
    np.float32,
)
_D50 = np.array([0.96422, 1.0, 0.82521], np.float32)
_EPSILON = 6 / 29
"""Where L*a*b* becomes linear (CIE 15)."""
# ITU-T T.42, as RFC 2301 gives it for the tag Decode: a* and b* of the codes 0 and 255.
_ITU_A, _ITU_B = (-21760 / 255, 21590 / 255), (-19200 / 255, 30800 / 255)


@dataclass(frozen=True, slots=True)
class Converter:
    """Converts pixels, whose last axis is samples, into RGB and opacity.

    Parameters
    ----------
    attrs : mapping
        See `cloudimg.ImageAttributes`.
    dtype : numpy.dtype
        Type of the pixels.
    space : str
        Key of `N_COLOURS`.
    alpha : int, optional
        Sample that is opacity.
    """

    attrs: Mapping[str, Any]
    dtype: np.dtype[Any]
    space: str
    alpha: int | None

    @property
    def keeps_values(self) -> bool:
        """Whether results are as bright as the samples; otherwise they are from 0 to 255."""
        return self.space in _AS_STORED

    @property
    def n_bits(self) -> int:
        """Significant bits of a sample."""
        return int(self.attrs.get("bits_per_sample", 8 * self.dtype.itemsize))

    @property
    def greatest(self) -> float:
        """Greatest value of a sample."""
        if self.dtype.kind == "u":
            return float(2**self.n_bits - 1)
        return float(np.iinfo(self.dtype).max) if self.dtype.kind == "i" else 1.0

    def __call__(self, pixels: Array) -> Array:
        """Return gray or RGB, multiplied by the opacity, and the opacity from 0 to 1 if any."""
        colours = pixels[..., : N_COLOURS[self.space]]
        if self.space not in _AS_STORED:
            colours = self._light(colours)
        if self.alpha is None:
            return colours
        opacity = pixels[..., self.alpha, np.newaxis] / np.float64(self.greatest)
        if not self._is_associated:
            colours = colours * (opacity + _LEAST_WEIGHT)
        return np.concatenate([colours, opacity], axis=-1)

    @property
    def _is_associated(self) -> bool:
        # Products of opacity and inks or L*a*b* are not defined; libtiff ignores such opacity.
        if self.alpha is None or self.space not in _AS_STORED:
            return False
        return bool(self.attrs["samples"][self.alpha] == "alpha: associated")

    @property
    def n_converted(self) -> int:
        """Number of samples of `as_bytes`: 3, or 4 with opacity."""
        return 3 + (self.alpha is not None)

    def as_bytes(self, pixels: Array) -> npt.NDArray[np.uint8]:
        """Return RGB of 8 bits, followed by the opacity if any, with which nothing is multiplied.

        Only for spaces whose samples do not keep their values.
        """
        light = self._light(pixels[..., : N_COLOURS[self.space]])
        if self.alpha is not None:
            opacity = pixels[..., self.alpha, np.newaxis] * np.float32(255 / self.greatest)
            light = np.concatenate([light, opacity.clip(0, 255)], axis=-1)
        return np.rint(np.nan_to_num(light)).astype(np.uint8)

    def separate(self, planes: Array) -> tuple[Array, Array | None]:
        """Undo the multiplication in planes (k, y, x) of results or of means of results.

        Returns
        -------
        colours : ndarray
            Planes of gray or RGB.
        opacity : ndarray or None
            None if all pixels are opaque. Writers of 32-bit pixels leave the fourth sample empty,
            so that opacity which is 0 everywhere counts as absent.
        """
        if self.alpha is None:
            return planes, None
        colours, opacity = planes[:-1], planes[-1]
        known = np.nan_to_num(opacity)
        if not self._is_associated:
            colours = colours / (known + _LEAST_WEIGHT)
        elif known.any():
            colours = np.divide(colours, known, out=colours.copy(), where=known > 0)
        return colours, None if not known.any() or (known > 1 - 1e-6).all() else opacity

    def _light(self, samples: Array) -> Light:
        """RGB from 0 to 255."""
        if self.space == "palette":
            return _look_up(samples[..., 0], self.attrs["colormap"])
        if self.space == "ycbcr":
            return self._from_ycbcr(samples)
        if self.space.startswith("cmyk"):
            ink = samples.astype(np.float32) / np.float32(self.greatest)
            paper = ink if self.space == "cmyk-inverted" else 1 - ink
            return np.asarray(255 * (paper[..., :3] * paper[..., 3:]).clip(0, 1))
        return _from_lab(*_LAB[self.space](samples))

    def _from_ycbcr(self, samples: Array) -> Light:
        """RGB of luminance and chrominance: TIFF 6.0, section 21."""
        red, green, blue = self.attrs.get("ycbcr_coefficients", _LUMA)
        if not green:
            red, green, blue = _LUMA
        # Sections 20 and 21; libtiff takes the same for the default of YCbCr.
        full = self.greatest
        half = full / 2 if samples.dtype.kind == "f" else (full + 1) // 2
        codes = self.attrs.get("reference_black_white", (0, full, half, full, half, full))
        (y, cb, cr) = (
            (samples[..., i].astype(np.float32) - codes[2 * i])
            * np.float32(reach / (codes[2 * i + 1] - codes[2 * i] or reach or 1))
            for i, reach in enumerate((full, full - half, full - half))
        )
        r = cr * np.float32(2 - 2 * red) + y
        b = cb * np.float32(2 - 2 * blue) + y
        g = (y - np.float32(blue) * b - np.float32(red) * r) / np.float32(green)
        return np.asarray((np.stack([r, g, b], axis=-1) * np.float32(255 / full)).clip(0, 255))


def find_colour(attrs: Mapping[str, Any], n_samples: int) -> tuple[str | None, int | None]:
    """Return the colour space if a pixel is one colour, and which sample is its opacity.

    Parameters
    ----------
    attrs : mapping
        See `cloudimg.ImageAttributes`.
    n_samples : int
        Length of the axis of samples, 1 without one.
    """
    space = attrs.get("color_space", "")
    samples = attrs.get("samples", [])
    stated = [i for i, name in enumerate(samples) if name.startswith("alpha: ")]
    alpha = stated[0] if stated and len(samples) == n_samples else None
    if n_samples < N_COLOURS.get(space, math.inf):
        return None, None
    if space == "palette" and attrs.get("colormap") is None:
        return None, None
    # Grey samples beside each other are channels, unless they are one and its opacity.
    is_channel = space.startswith("gray") and (n_samples != 2 or alpha is None)
    return (None, None) if is_channel else (space, alpha)


def attributes_in_rgb(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of an image that is converted to RGB, from those of the stored one."""
    opacity = [name for name in attrs.get("samples", ()) if name.startswith("alpha: ")]
    kept = {name: value for name, value in attrs.items() if name not in _OF_STORED}
    if opacity:
        kept["samples"] = ["red", "green", "blue", opacity[0]]
    return {**kept, "color_space": "rgb"}


def converter_of(
    attrs: Mapping[str, Any], dtype: np.dtype[Any], n_samples: int
) -> Converter | None:
    """Return what converts pixels into RGB; None if a pixel is not one colour."""
    space, alpha = find_colour(attrs, n_samples)
    return None if space is None else Converter(attrs, dtype, space, alpha)


def _look_up(indices: Array, colormap: Array) -> Light:
    """RGB of palette indices."""
    light = eight_bits(colormap).T.astype(np.float32)
    return np.asarray(light[np.minimum(indices, len(light) - 1).astype(np.intp)])


def eight_bits(colormap: Array) -> npt.NDArray[np.uint8]:
    """Return the colours of a palette in 8 bits: the upper ones, as some writers fill only 8."""
    table = np.asarray(colormap)
    return (table >> 8 if table.max(initial=0) > 255 else table).astype(np.uint8)


def _from_lab(lightness: Array, a: Array, b: Array) -> Light:
    """SRGB of CIE L*a*b* from 0 to 100 and around 0: CIE 15, IEC 61966-2-1."""
    y = (lightness + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = np.where(f > _EPSILON, f**3, 3 * _EPSILON**2 * (f - 4 / 29)).astype(np.float32) * _D50
    linear = (xyz @ _SRGB_OF_XYZ.T).clip(0, 1)
    curve = 1.055 * linear ** (1 / 2.4) - 0.055
    return np.asarray(255 * np.where(linear <= 0.0031308, 12.92 * linear, curve), np.float32)


def _cielab(samples: Array) -> tuple[Array, Array, Array]:
    """L*, a* and b* of PhotometricInterpretation 8: TIFF 6.0, section 23."""
    if samples.dtype.kind == "f":
        return samples[..., 0], samples[..., 1], samples[..., 2]
    size = samples.dtype.itemsize
    lightness = samples[..., 0].astype(f"u{size}") * np.float32(100 / (256**size - 1))
    a, b = (samples[..., i].astype(f"i{size}") / np.float32(256 ** (size - 1)) for i in (1, 2))
    return lightness, a, b


def _icclab(samples: Array) -> tuple[Array, Array, Array]:
    """L*, a* and b* of PhotometricInterpretation 9: Adobe's TIFF Technical Notes of 2002, ICC.1."""
    if samples.dtype.kind == "f":
        return _cielab(samples)
    unit = 256 ** (samples.dtype.itemsize - 1)
    lightness = samples[..., 0] * np.float32(100 / (255 * unit))
    a, b = (samples[..., i] / np.float32(unit) - 128 for i in (1, 2))
    return lightness, a, b


def _itulab(samples: Array) -> tuple[Array, Array, Array]:
    """L*, a* and b* of PhotometricInterpretation 10: RFC 2301, with the default of Decode."""
    if samples.dtype.kind == "f":
        return _cielab(samples)
    share = samples / np.float32(256**samples.dtype.itemsize - 1)
    a, b = (
        share[..., i] * np.float32(high - low) + np.float32(low)
        for i, (low, high) in ((1, _ITU_A), (2, _ITU_B))
    )
    return share[..., 0] * 100, a, b


_LAB: Mapping[str, Callable[[Array], tuple[Array, Array, Array]]] = {
    "cielab": _cielab,
    "icclab": _icclab,
    "itulab": _itulab,
}
