"""Properties of `cloudimg.reading.layout`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloudimg.reading.layout import arrange, with_extents


@st.composite
def layouts(draw: Any) -> Any:
    names = ["t", "c", "z", "y", "x", "well"]
    fields = draw(st.lists(st.sampled_from(names), unique=True, max_size=4))
    others = [n for n in ["page", "t", "c", "z"] if draw(st.booleans())]
    file_dims = [*others, "y", "x"]
    lengths = [draw(st.integers(1, 3)) for _ in fields]
    file_shape = [draw(st.integers(1, 4)) for _ in file_dims]
    layout = arrange(fields, lengths, file_dims, file_shape, mosaic=True, dims=None)
    extents = {
        axis.name: [draw(st.integers(1, 4)) for _ in axis.extents]
        for axis in layout.axes
        if axis.field is not None and not axis.is_stacked
    }
    return with_extents(layout, extents)


@given(layout=layouts(), data=st.data())
def test_assignments_cover_a_region_exactly_once(layout: Any, data: st.DataObject) -> None:
    """Every pixel of the region comes from one place in one file, and from the right one."""
    region = []
    for length in layout.shape:
        start = data.draw(st.integers(0, length - 1))
        stop = data.draw(st.integers(start + 1, length))
        region.append(slice(start, stop, data.draw(st.integers(1, 3))))
    truth = np.arange(math.prod(layout.shape)).reshape(layout.shape)
    out = np.full([len(range(s.start, s.stop, s.step)) for s in region], -1)
    for assignment in layout.assignments(tuple(region)):
        # The whole file, cut out of the truth and brought into the axes of the file.
        whole = []
        for axis in layout.axes:
            if axis.field is None:
                whole.append(slice(None))
            else:
                i = assignment.index[axis.field]
                begin = sum(axis.extents[:i])
                whole.append(i if axis.is_stacked else slice(begin, begin + axis.extents[i]))
        file = truth[tuple(whole)].transpose(assignment.transpose)
        assert file.shape == layout.file_shape(assignment.index)
        target = out[assignment.place].transpose(assignment.transpose)
        assert (target == -1).all()
        target[...] = file[assignment.file_region]
    np.testing.assert_array_equal(out, truth[tuple(region)])
