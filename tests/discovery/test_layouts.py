"""Known layouts: the names of their sources, whole acquisitions, and what lies beside."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from cloudimg.discovery.layout import Layout
from cloudimg.discovery.layouts import LAYOUTS
from cloudimg.discovery.proposals import Proposal, propose_patterns
from cloudimg.pattern import compile_pattern

AXES: dict[str, dict[str, int]] = {
    "Opera Phenix": {"row": 2, "col": 3, "field": 2, "z": 2, "c": 3, "t": 2},
    "ImageXpress, GUID glued to the channel": {"well": 3, "field": 2, "c": 3},
    "MetaXpress folders": {"t": 2, "z": 3, "well": 2, "field": 2, "c": 2},
    "Yokogawa CV8000": {"well": 2, "t": 2, "field": 2, "z": 2, "c": 2},
    "IN Cell Analyzer": {"row": 2, "col": 2, "field": 2, "c": 2, "z": 2},
    "Micro-Manager 2, separate files": {"position": 2, "c": 2, "t": 2, "z": 2},
    "Micro-Manager 1.4": {"position": 4, "t": 2, "c": 2, "z": 2},
    "Metamorph": {"c": 2, "field": 2, "t": 2},
    "Squid": {"t": 2, "well": 2, "field": 2, "z": 2, "c": 2},
    "TeraStitcher, three levels": {"tile_y": 2, "tile_x": 2, "z": 3},
    "Incucyte": {"well": 3, "field": 2, "t": 3},
    "Keyence": {"position": 2, "t": 2, "z": 2, "c": 2},
    "HLS": {"tile": 2, "t": 2, "band": 3},
    "Sentinel-2 COGs": {"t": 2, "band": 4},
    "Landsat Collection 2": {"t": 2, "band": 3},
    "ISO times": {"t": 4},
    "channels by word": {"c": 2, "z": 3},
}
"""What a person says of the names in reports/names.json of the corpus."""


def only(names: Iterable[str], **options: Any) -> Proposal:
    """The one proposal for some names, of which it takes all that are planes."""
    listed = list(names)
    proposals = propose_patterns(listed, **options)
    assert len(proposals) == 1, [each.pattern for each in proposals]
    [proposal] = proposals
    assert proposal.problem == ""
    assert proposal.n_left_out == 0
    assert proposal.n_files + sum(n for _, n in proposal.excluded) == len(listed)
    return proposal


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_layout_fits_the_names_of_its_source(layout: Layout) -> None:
    proposal = only(layout.examples)
    assert (proposal.layout, proposal.source) == (layout.name, layout.source)
    assert proposal.certainty == "known"
    assert re.match(r"https://\S+\Z", layout.source)
    pattern = compile_pattern(proposal.pattern)
    for name in layout.examples:
        found = layout.compiled.fullmatch(name)
        assert found is not None
        texts = found.groupdict()
        # What differs in the examples is an axis with the name of its group.
        differing = {
            group
            for group, text in texts.items()
            if text is not None
            and any(
                other[group] != text
                for example in layout.examples
                if (other := layout.compiled.fullmatch(example))
            )
        }
        axes = {
            group.partition("__")[0]
            for group in differing
            if not group.startswith(("maybe_", "any_", "folders"))
        }
        assert axes <= set(pattern.fields)


def test_names_of_layouts_are_distinct() -> None:
    names = [layout.name for layout in LAYOUTS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (
            [
                f"world.topo.bathy.2004{month:02d}.3x21600x21600.{column}{row}.png"
                for month in range(1, 13)
                for column in "ABCD"
                for row in (1, 2)
            ],
            "world.topo.bathy.{t:%Y%m}.3x21600x21600.{tile:s}.png",
        ),
        (
            [f"BlackMarble_{y}_{c}{r}_geo.tif" for y in (2012, 2016) for c in "ABCD" for r in "12"],
            "BlackMarble_{t:%Y}_{tile:s}_geo.tif",
        ),
        (
            [f"BlackMarble_2016_{c}{r}_geo.tif" for c in "ABCD" for r in "12"],
            "BlackMarble_2016_{tile:s}_geo.tif",
        ),
    ],
)
def test_tiles_that_are_called_like_wells(names: list[str], pattern: str) -> None:
    proposal = only(names)
    assert proposal.certainty == "known"
    assert proposal.pattern == pattern
    assert dict(proposal.lengths)["tile"] == 8


@pytest.mark.parametrize("case", [*AXES])
def test_names_that_people_reported(case: str, corpus: Path) -> None:
    reported = json.loads((corpus / "reports/names.json").read_text())
    [names] = [each["names"] for each in reported if each["scheme"] == case]
    for order in (names, names[::-1]):
        proposal = only(order)
        assert dict(proposal.lengths) == AXES[case]
        assert proposal.certainty in ("known", "likely")


def grid(name: Callable[..., str], *axes: Iterable[Any]) -> list[str]:
    return [name(*values) for values in itertools.product(*axes)]


GUIDS = (f"{i:08X}-AAAA-4BBB-8CCC-0123456789AB" for i in itertools.count(0xFA000000))


@pytest.mark.parametrize(
    ("names", "pattern", "excluded"),
    [
        (
            grid(
                lambda w, s, c, kind: f"P_{w}_s{s}_w{c}{kind}{next(GUIDS)}.tif",
                *(["A01", "B02"], [1, 2], [1, 2], ["", "_thumb"]),
            ),
            r"P_{well:[A-P]\d{2}}_s{field}_w{c:\d}[0-9A-Fa-f]*.tif",
            (("thumbnails", 8),),
        ),
        (
            grid(
                lambda t, z, w: f"TimePoint_{t}/ZStep_{z}/x_{w}_s1_w1.TIF",
                *([1, 2], [0, 1, 2], ["A01", "H12"]),
            ),
            r"TimePoint_{t}/ZStep_{z}/x_{well:[A-P]\d{2}}_s1_w1.TIF",
            (("projections", 4),),
        ),
        (  # nothing else: then these are the images
            grid(lambda t, w: f"TimePoint_{t}/ZStep_0/x_{w}_s1_w1.TIF", [1, 2], ["A01", "H12"]),
            r"TimePoint_{t}/ZStep_0/x_{well:[A-P]\d{2}}_s1_w1.TIF",
            (),
        ),
        (
            [
                *grid(lambda w, s: f"{w}_01_1_{s}_DAPI_001.tif", ["A1", "H12"], [1, 2]),
                *grid(lambda w: f"{w}_-1_1_1_Stitched[DAPI 1,2]_001.tif", ["A1", "H12"]),
            ],
            r"{well:[A-Z]{1,2}\d{1,2}}_01_1_{field}_DAPI_001.tif",
            (("stitched images", 2),),
        ),
        (
            grid(lambda x, c: f"XY0{x}/a_XY0{x}_{c}.tif", [1, 2], ["CH1", "CH2", "Overlay"]),
            "XY{position:02d}/a_XY{position:02d}_CH{c}.tif",
            (("overlays of the channels", 2),),
        ),
        (
            [
                *grid(lambda s, t: f"{s}/t{t:03d}.tif", ["01", "02"], range(4)),
                *grid(lambda s, t: f"{s}_GT/SEG/man_seg{t:03d}.tif", ["01", "02"], range(2)),
            ],
            "{sequence:02d}/t{t:03d}.tif",
            (("masks", 4),),
        ),
        (
            [
                *grid(lambda c, z: f"Chan{c}_001_001_{z:03d}_001.tif", "AB", [1, 2]),
                *("ChanA_Preview.tif", "ChanB_Preview.tif"),
            ],
            "Chan{c:s}_001_001_{z:03d}_001.tif",
            (("previews", 2),),
        ),
        (
            [
                *grid(lambda c, z: f"Z_Cycle00001_Ch{c}_{z:06d}.ome.tif", [1, 2], range(1, 5)),
                "References/Z-Cycle00001_Ch1-8bit-Reference.tif",
            ],
            "Z_Cycle00001_Ch{c}_{frame:06d}.ome.tif",
            (("reference images", 1),),
        ),
        (
            [
                *grid(lambda c, z: f"a.oif.files/s_C{c:03d}Z{z:03d}.tif", [1, 2], [1, 2]),
                "a.oif.files/s_Thumb_C001Z001.tif",
            ],
            "a.oif.files/s_C{c:03d}Z{z:03d}.tif",
            (("thumbnails", 1),),
        ),
        (
            [
                f"a_[{at}]_{kind}"
                for at in ("14146,33693", "15206,60541")
                for kind in ("component_data.tif", "composite_image.tif", "binary_seg_maps.tif")
            ],
            "a_[[]{position:s}]_component_data.tif",
            (("composites", 2), ("masks", 2)),
        ),
        (
            [
                *grid(lambda w, s: f"{w}_01_1_{s}_DAPI_001.tif", ["A1", "H12"], [1, 2]),
                *grid(lambda w: f"{w}_-2_1_1_Other[Stitched[DAPI]]_001.tif", ["A1", "H12"]),
            ],
            r"{well:[A-Z]{1,2}\d{1,2}}_01_1_{field}_DAPI_001.tif",
            (("processed images", 2),),
        ),
    ],
    ids=[
        *("thumbs", "projections", "only projections", "stitched", "overlays", "masks"),
        *("previews", "references", "thumbs of FluoView", "inForm", "processed"),
    ],
)
def test_what_lies_beside_planes_is_left_out(
    names: list[str], pattern: str, excluded: tuple[tuple[str, int], ...]
) -> None:
    proposal = only(names)
    assert proposal.pattern == pattern
    assert proposal.excluded == excluded
    assert len(proposal.exclude) == len(excluded)


@pytest.mark.parametrize(
    ("names", "lengths"),
    [
        (  # two plates, wells of 1536
            grid(
                lambda p, w, c: f"{p}/{p}_{w}_T0001F001L01A0{c}Z01C0{c}.tif",
                *(["plate1", "plate2"], ["A01", "AF48"], [1, 2]),
            ),
            {"plate": 2, "well": 2, "c": 2},
        ),
        (
            grid(
                lambda p, r, ch: f"{p}__2020/Images/r0{r}c01f01p01-ch{ch}sk1fk1fl1.tiff",
                *(["BR1", "BR2"], [1, 2], [1, 2]),
            ),
            {"folder": 2, "row": 2, "c": 2},
        ),
        (
            grid(
                lambda w, p, c: f"data/{w[0]}--W{w[1]:05d}--P{p:05d}--Z00000--T00000--{c}.tif",
                *([("A1", 1), ("H12", 96)], [1, 2], ["DAPI", "Alexa 488"]),
            ),
            {"well": 2, "field": 2, "c": 2},
        ),
        (
            grid(
                lambda k, w, t: f"{k}/VID1_{w}_1_{t}.tif",
                *(["phase", "green"], ["A1", "H12"], ["00d00h00m", "01d06h30m"]),
            ),
            {"c": 2, "well": 2, "t": 2},
        ),
        (
            grid(
                lambda w, s, c: f"{w}-Site_{s}/img_channel00{c}_position00{s + 2 * (w == 'A2')}"
                "_time000000000_z000.tif",
                *(["A1", "A2"], [0, 1], [0, 1]),
            ),
            {"well": 2, "field": 2, "c": 2},
        ),
        (
            grid(
                lambda d, b: f"{d[2]}_L2SP_044034_{d[0]}_{d[1]}_02_T1_{b}.TIF",
                *([("20200703", "20200913", "LC08"), ("20200711", "20200911", "LC09")],
                  ["SR_B2", "ST_B10", "QA_PIXEL"]),
            ),
            {"t": 2, "band": 3},
        ),
        (  # a scene of which there is one date less
            [
                f"HLS.S30.{tile}.{time}.v2.0.{band}.tif"
                for tile, time in itertools.product(
                    ["T10SEG", "T11SKU"], ["2020275T184911", "2020280T184911"]
                )
                for band in ("B04", "B8A")
                if (tile, time) != ("T11SKU", "2020275T184911")
            ],
            {"tile": 2, "t": 2, "band": 2},
        ),
        (  # folders that hold a channel each
            [
                f"{p}w{c}/IXMtest_{w}_s{s}_w{c}{next(GUIDS)}.tif"
                for p, c in itertools.product([20585, 20586], [1, 2, 3])
                for w, s in itertools.product(["A01", "P24"], [1, 2])
            ],
            {"folder": 2, "well": 2, "field": 2, "c": 3},
        ),
        (
            [
                f"{p}-{c[1]}/cdp_{w}_s1_w{c[0]}{next(GUIDS)}.tif"
                for p, w in itertools.product([1, 2], ["a01", "p24"])
                for c in ((1, "Mito"), (2, "ERSyto"))
            ],
            {"folder": 2, "well": 2, "c": 2},
        ),
        (  # one channel: the GUID follows numbers of several widths
            [f"240124d3_{w}_s{s}{next(GUIDS)}.tif" for w in ("B05", "D05") for s in (1, 2, 15)],
            {"well": 2, "field": 3},
        ),
        (
            [f"a_{w}_w{c}_{next(GUIDS)}.tif" for w in ("A01", "B02") for c in (1, 2)],
            {"well": 2, "c": 2},
        ),
        (
            grid(
                lambda k, f, t, n: f"{k[0]}_Phase_{k[1]}_{f}_{t}_{n}.tif",
                *([("A172", "A7"), ("BT474", "B3")], [1, 2], ["00d00h00m", "01d04h00m"], [1, 2]),
            ),
            {"well": 2, "field": 2, "t": 2, "tile": 2},
        ),
        (
            [
                f"Scan_Iter_0000_{t:04d}_{c[0]}_CAM1_stack0000_{c[1]}nm_0000000msec"
                f"_{95937481 + t:010d}msecAbs_{x:03d}x_000y_000z_0000t.tif"
                for t, c, x in itertools.product(
                    *([0, 1, 2], [("CamA_ch0", 488), ("CamB_ch0", 560)], [0, 1])
                )
            ],
            {"t": 3, "c": 2, "tile_x": 2},
        ),
        (
            grid(
                lambda t, c: f"SPM00/TM{t:06d}/SPM00_TM{t:06d}_CM00_CM01_CHN{c:02d}.fusedStack.tif",
                *([0, 1, 2], [0, 1]),
            ),
            {"t": 3, "c": 2},
        ),
        (
            grid(
                lambda s, t, c: f"6hr-Image Export-01_s{s:02d}t{t}{c}_ORG.tif",
                *([9, 10], [57, 58], ["_EGFP", "_mCherry"]),
            ),
            {"scene": 2, "t": 2, "c": 2},
        ),
        (
            grid(
                lambda s, t, c: f"Experiment-07_s{s:02d}t{t}{c}_1_ORG.tif",
                *([9, 10], [57, 58], ["TL Brightfield", "EGFP"]),
            ),
            {"scene": 2, "t": 2, "c": 2},
        ),
        (  # bands that look like wells, and no satellite before the tile
            grid(
                lambda t, d, b: f"OPERA_L3_DSWx-HLS_{t}_{d}Z_20230420T000000Z_L8_30_v1.0_{b}.tif",
                *(["T11SKU", "T10SEG"], ["20230407T183201", "20230412T183201"]),
                ["B01_WTR", "B02_BWTR", "B03_CONF"],
            ),
            {"tile": 2, "t": 2, "band": 3},
        ),
        (
            grid(
                lambda p, d, b: f"{p[:3]}/{p[3:]}/{d.replace('-', '/')}/"
                f"ga_ls8c_nbart_3-2-1_{p}_{d}_final_band{b:02d}.tif",
                *(["089083", "092084"], ["2020-07-03", "2020-08-04"], [2, 3, 4]),
            ),
            {"tile": 2, "t": 2, "band": 3},
        ),
        (  # the satellite's C02 is not a channel
            [
                f"{name}/{name}.tif"
                for name in (
                    "CAPELLA_C02_SM_GEO_HH_20210119180015_20210119180018",
                    "CAPELLA_C05_SP_GEO_HH_20220119180015_20220119180018",
                )
            ],
            {"t": 2},
        ),
    ],
    ids=[
        *("plates", "folders", "scanr", "channel folders", "sites", "satellites", "holes"),
        *("channel folders of plates", "named channel folders"),
        *("GUIDs", "GUIDs apart", "crops", "lattice light sheet", "fused"),
        *("names of channels", "names of channels, glued"),
        *("OPERA", "Australia", "Capella"),
    ],
)  # fmt: skip
def test_axes_of_whole_acquisitions(names: list[str], lengths: dict[str, int]) -> None:
    proposal = only(names)
    assert dict(proposal.lengths) == lengths
    n_indices = 1
    for n in lengths.values():
        n_indices *= n
    assert proposal.n_missing == n_indices - len(names)


def test_files_of_two_layouts_are_two_proposals() -> None:
    names = [
        *grid(lambda t, c: f"a/img_00000000{t}_{c}_000.tif", range(3), ["DAPI", "Cy5"]),
        *grid(lambda s, t: f"b/exp_s{s}_t{t}.TIF", [1, 2], [1, 2]),
    ]
    first, second = propose_patterns(names)
    assert (first.layout, first.n_files, first.n_left_out) == ("Micro-Manager 1.4", 6, 4)
    assert (second.layout, second.n_files, second.n_left_out) == ("MetaMorph", 4, 6)
    assert not first.is_sure


def test_what_is_constant_in_a_part_of_a_folder_is_a_field() -> None:
    names = grid(lambda w, s: f"TimePoint_1/x_{w}_s{s}_w1.TIF", ["A01", "B01"], [1, 2])
    assert only(names).pattern == r"TimePoint_1/x_{well:[A-P]\d{2}}_s{field}_w1.TIF"
    cut_off = only(names, is_truncated=True)
    assert cut_off.pattern == r"TimePoint_{t}/x_{well:[A-P]\d{2}}_s{field}_w{c}.TIF"


def test_more_names_than_a_sample_are_all_counted() -> None:
    names = grid(
        lambda w, t, f: f"P_{w}_T{t:04d}F{f:03d}L01A01Z01C01.tif",
        *(["A01", "B02"], range(1, 41), range(1, 51)),
    )
    odd = "P_C03_T0041F051L01A01Z02C02.tif"  # differs in what is the same in all others
    assert only([*names, odd]).n_files == 4001
    guessed = only([name.replace("_T", "_q") for name in (*names, odd)])
    assert guessed.n_files == 4001


@pytest.mark.parametrize(
    ("acquisition", "pattern", "lengths"),
    [
        (
            "cv8000",
            r"CV8000-Minimal-DataSet-2C-3W-4S-FP2-stack_{well:[A-P]\d{2}}_T0001F{field:03d}"
            "L01A{c:02d}Z{z:02d}C{c:02d}.tif",
            {"well": 3, "field": 4, "c": 2, "z": 4},
        ),
        (
            "metaxpress",
            r"TimePoint_1/ZStep_{z}/9987_{well:[A-P]\d{2}}_s{field}_w{c}.TIF",
            {"z": 2, "well": 2, "field": 2, "c": 3},
        ),
        (
            "illum",
            r"AS_09047_050428030001_{well:[A-P]\d{2}}f{field:02d}d2.TIF",
            {"well": 24, "field": 3},
        ),
        ("drosophila", "DrosophilaEmbryo_GFPHistone_{n:04d}.tif", {"n": 21}),
    ],
)
def test_real_acquisitions(
    acquisition: str, pattern: str, lengths: dict[str, int], corpus: Path
) -> None:
    folder = corpus / "acquisitions" / acquisition
    names = [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() == ".tif"
    ]
    proposal = only(names)
    assert (proposal.pattern, dict(proposal.lengths)) == (pattern, lengths)


def test_the_folder_is_literal() -> None:
    names = [f"img_00000000{t}_DAPI_000.tif" for t in range(3)]
    assert only(names, prefix="s3://b/{x}[1]/").pattern == (
        "s3://b/{{x}}[[]1]/img_{t:09d}_DAPI_000.tif"
    )
