"""`SelectableImage`: an image of which parts can be selected, which are images again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from cloudimg.errors import ArgumentError
from cloudimg.image.described import DescribedImage
from cloudimg.opening.part_of_image import choose, part_of, selection_of


class SelectableImage(DescribedImage):
    """Adds `sel` and `isel`; a base class of `cloudimg.Image`."""

    _is_derived = False
    """Whether it was made from an open image, whose notes and report are about more files."""

    def sel(self, select: Mapping[str, Any] | None = None, /, **by_axis: Any) -> Self:
        """Return the part of the image with some labels; reads nothing.

        A single label drops its axis, as in xarray; a list or a slice keeps it. The part has the
        files, facts, attributes and coordinates of what it shows, and `to_zarr` copies it.

        - Along an axis on which files are stacked, a value is a label, as the names of the files
          have it and `coords` lists it. A slice has both of its ends.
        - Along ``c``, a text may also be the name of a channel; where each channel has its own
          files, a header of each is read for its name.
        - Along other axes, whose positions have no labels, a value is a position from 0, and a
          slice lacks its end, as in Python.

        Parameters
        ----------
        select : mapping, optional
            What to select by axis: a label, an increasing list of labels, a slice, or a text as the
            command line has it (``"0:10"``).
        **by_axis
            The same, as keywords.

        Raises
        ------
        ArgumentError
            For a label that is not there; the message names the nearest ones.

        Examples
        --------
        >>> import cloudimg
        >>> image = cloudimg.open("s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif")
        >>> part = image.sel(c=1, z=slice(2, 4))
        >>> part.dims, part.shape, part.n_files
        (('t', 'z', 'y', 'x'), (2, 3, 48, 72), 54)
        """
        return self._part(select, by_axis, by_label=True)

    def isel(self, select: Mapping[str, Any] | None = None, /, **by_axis: Any) -> Self:
        """Return the part of the image at some positions along its axes; reads nothing.

        Like `sel`, but values are positions along all axes: integers, increasing lists of them,
        masks, and slices that lack their end.

        Examples
        --------
        >>> import cloudimg
        >>> image = cloudimg.open("s3://lab/exp/mydata_ch{c}_{t}t_{x}x_{y}y_{z}z.tif")
        >>> image.isel(t=-1, y=slice(0, 20)).shape
        (2, 10, 20, 72)
        """
        return self._part(select, by_axis, by_label=False)

    def _part(
        self, select: Mapping[str, Any] | None, by_axis: Mapping[str, Any], *, by_label: bool
    ) -> Self:
        if select is not None and not isinstance(select, Mapping):
            raise ArgumentError(f"expected a mapping of axes to what to select, not {select!r}")
        given = {**(select or {}), **by_axis}
        if not given:
            return self
        keyword = "sel" if by_label else "isel"
        chosen = choose(self._opened, given, by_label=by_label, keyword=keyword)
        opened = part_of(self._opened, selection_of(self._opened, chosen))
        part = type(self)(opened, self._urls, self._arguments)
        part._is_derived = True
        return part
