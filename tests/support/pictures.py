"""Pictures of real files by Pillow and LittleCMS, with which ours are compared."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

Array = npt.NDArray[Any]

UPSAMPLED = {
    "old-style-jpeg-compression-no-samplesperpixel.tif",
    "old-style-jpeg-compression.tif",
    "old-style-jpeg-no-jpeginterchangeformatlength.tif",
}
"""Old-style JPEG, whose chrominance libtiff repeats and libjpeg interpolates."""


def by_littlecms(lab: Array) -> Array:
    """RGB of CIE L*a*b* in 8 bits, without the tables that LittleCMS interpolates by default."""
    profiles = ImageCms.createProfile("LAB", 5000), ImageCms.createProfile("sRGB")
    relative, exact = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.NOOPTIMIZE
    transform = ImageCms.buildTransform(*profiles, "LAB", "RGB", relative, exact)
    image = Image.frombytes("LAB", lab.shape[1::-1], lab.tobytes())
    return np.asarray(ImageCms.applyTransform(image, transform))


REAL = [
    (("YCBCR",), 10),
    (("SEPARATED",), 5),
    (("CIELAB",), 1),
    (("PALETTE",), 15),
    (("MINISWHITE", "MINISWHITE(default)"), 20),
    (("RGB",), 60),
]
"""Colours of real files, and of how many files at least Pillow knows the picture."""


def real_files(corpus: Path, *photometric: str) -> list[Path]:
    """Readable files of one page that no orientation turns, by their photometric interpretation."""
    with (corpus / "index.csv").open(newline="") as file:
        return [
            corpus / "files" / row["path"]
            for row in csv.DictReader(file)
            if row["photometric"] in photometric
            and (row["n_pages"], row["tifffile_status"], row["gdal_status"]) == ("1", "ok", "ok")
            and int(row["size"]) < 10**6
        ]


def by_pillow(path: Path, n_samples: int) -> Array | None:
    """The picture of a file by Pillow; None if Pillow reads it otherwise, or not at all."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            if image.getexif().get(274, 1) != 1 or image.tag_v2.get(258, (1,))[0] > 8:
                return None
            if image.mode == "LAB":
                lab = np.frombuffer(image.tobytes(), np.uint8)
                return by_littlecms(lab.reshape(*image.size[::-1], 3))
            mode = {1: "L", 3: "RGB", 4: "RGBA"}[n_samples]
            return np.asarray(image.convert(mode))
    except (OSError, SyntaxError, ValueError, TypeError):
        return None
