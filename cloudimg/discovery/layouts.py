r"""The table of namings that instruments and archives are known to use. Pure.

A row says how the part of a name below some folder is written, as a regular expression in which
groups are axes: ``c``, ``t`` and ``z``; ``well``, or ``row`` and ``col``; ``field``, ``position``,
``tile`` and others. A group that ends in ``__2`` is the same axis again. ``maybe_plate`` is an axis
only where names are not told apart without it, and ``any_guid`` is never one. What an instrument
stores beside the planes (thumbnails, projections) is named by globs.

To add a row, write what a source says, with names of that source as examples: the tests try them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

_WELL = r"(?:[A-P]|A[A-F])\d{1,2}"
_WELL_OF_ANY_CASE = r"(?:[A-Pa-p]|A[A-F])\d{1,2}"
_GUID = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_TIF = r"(?i:\.tiff?)"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One known way to name files."""

    name: str
    """Instrument, program or archive."""
    regex: str
    """Regular expression of names from some folder on; see the module."""
    source: str
    """URL of what says so."""
    examples: tuple[str, ...]
    """Names as its source writes them, or made after it, for the tests."""
    times: Mapping[str, str] = field(default_factory=dict)
    """Format of a time or an elapsed time, by axis."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """Globs of image files that are not planes, and what they are."""

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        return re.compile(rf"(?P<folders>(?:[^/]+/)*?){self.regex}", re.ASCII)


_THUMBS = {"*_thumb*": "thumbnails"}
_REFERENCES = {"References/*": "reference images"}

LAYOUTS = (
    # ------------------------------------------------------------------- screening microscopes
    Layout(
        name="Opera Phenix, Operetta (Harmony)",
        regex=r"(?:r(?P<row__2>\d\d)c(?P<col__2>\d\d)/)?r(?P<row>\d\d)c(?P<col>\d\d)"
        r"f(?P<field>\d{2,3})p(?P<z>\d{2,3})(?:rc(?P<maybe_rc>\d+))?-ch(?P<c>\d{1,2})"
        rf"(?:sk(?P<t>\d+)fk(?P<maybe_fk>\d+)fl(?P<maybe_fl>\d+)|t(?P<t__2>\d+)){_TIF}",
        source="https://forum.image.sc/t/16389",
        examples=(
            "Images/r04c17f01p07-ch1sk1fk1fl1.tiff",
            "Images/r04c18f01p07-ch2sk3fk1fl1.tiff",
        ),
    ),
    Layout(
        name="Operetta, Opera (Columbus)",
        regex=r"(?P<row>\d{3})(?P<col>\d{3})-(?P<field>\d+)-(?P<n>\d{3})(?P<z>\d{3})(?P<c>\d{3})"
        rf"{_TIF}",
        source="https://github.com/Swarchal/parseopera",
        examples=("002002-1-001001001.tif", "002003-1-002001002.tif"),
    ),
    Layout(
        name="Opera (Flex)",
        regex=r"(?P<row>\d{3})(?P<col>\d{3})(?P<field>\d{3})(?i:\.flex)",
        source="https://bio-formats.readthedocs.io/en/stable/formats/perkinelmer-opera-flex.html",
        examples=("001001000.flex", "001002001.flex"),
    ),
    Layout(
        name="ImageXpress HCS.ai",
        regex=r"(?:timepoint(?P<t__2>\d+)/)?(?P<maybe_plate>[^/]+)_t(?P<t>\d+)"
        rf"_(?P<well>{_WELL})_s(?P<field>\d+)_w(?P<c>\d+)_z(?P<z>\d+){_TIF}",
        source="https://fractal-analytics-platform.github.io/fractal-uzh-converters/dev/converters/"
        "md_imagexpress/",
        examples=(
            "experiment/timepoint0/protocol_t0_C05_s0_w0_z0.tif",
            "experiment/timepoint1/protocol_t1_C06_s1_w1_z1.tif",
        ),
    ),
    Layout(
        name="ImageXpress (MetaXpress)",
        regex=r"(?:(?i:time_?point)_(?P<t>\d+)/)?(?:(?i:zstep)_(?P<z>\d+)/)?"
        rf"(?:(?P<maybe_plate>[^/]+)_)?(?P<well>{_WELL_OF_ANY_CASE})(?=_[sw]\d|{_GUID})"
        rf"(?:_s(?P<field>\d+))?"
        rf"(?:_w(?P<c>\d{{1,2}}?))?(?:_z(?P<z__2>\d+))?(?:_t(?P<t__2>\d+))?"
        rf"(?:_?(?P<any_guid>{_GUID}))?{_TIF}",
        source="https://github.com/CellProfiler/CellProfiler/issues/505",
        examples=(
            "20220209-exp50-test2_B01_s1_w16DE341F2-7E20-4CE1-859F-E368584F24DB.tif",
            "20220209-exp50-test2_B02_s2_w26DE341F2-7E20-4CE1-859F-E368584F24DC.tif",
        ),
        beside={**_THUMBS, "ZStep_0/*": "projections"},
    ),
    Layout(
        name="ImageXpress (MetaXpress), one channel and site",
        regex=r"(?i:time_?point)_(?P<t>\d+)/(?:(?i:zstep)_(?P<z>\d+)/)?"
        rf"(?:(?P<maybe_plate>[^/]+)_)?(?P<well>{_WELL}){_TIF}",
        source="https://ezstitcher.readthedocs.io/en/latest/appendices/microscope_formats.html",
        examples=("TimePoint_1/plate_A01.TIF", "TimePoint_2/plate_A02.TIF"),
        beside={**_THUMBS, "ZStep_0/*": "projections"},
    ),
    Layout(
        name="CellVoyager CV7000, CV8000 (Yokogawa)",
        regex=rf"(?:(?P<maybe_plate>[^/]+)_)?(?P<well>{_WELL})_T(?P<t>\d{{4}})F(?P<field>\d{{3,4}})"
        r"L(?P<maybe_timeline>\d\d)A(?P<maybe_action>\d\d)Z(?P<z>\d{2,3})C(?P<c>\d\d)"
        rf"{_TIF}",
        source="https://github.com/fractal-analytics-platform/fractal-tasks-core",
        examples=(
            "210305NAR005AAN_210416_164828_B11_T0001F006L01A04Z14C01.tif",
            "210305NAR005AAN_210416_164828_C11_T0001F006L01A05Z14C02.tif",
        ),
        beside={"DC_*": "images of the cameras", "SC_*": "images of the illumination"},
    ),
    Layout(
        name="CQ1, CellVoyager CV1000 (Yokogawa)",
        regex=r"(?:(?P<maybe_name>[^/]*)-)?W(?P<well>\d{1,4})F(?P<field>\d{3,4})T(?P<t>\d{4})Z(?P<z>\d{2,3})"
        rf"C(?P<c>\d){_TIF}",
        source="https://forum.image.sc/t/52615",
        examples=("Image/W0001F0001T0001Z001C1.tif", "Image/W0002F0001T0001Z002C1.tif"),
        beside={"Projection/*": "projections"},
    ),
    Layout(
        name="IN Cell Analyzer",
        regex=r"(?:(?P<maybe_plate>[^/]+)_)?(?P<row>[A-P]|A[A-F]) - (?P<col>\d{1,3})"
        r"\(fld (?P<field>\d+)(?: wv (?P<c>[^()/]+?))?(?: z (?P<z>\d+))?(?: -)?"
        r"(?: (?:time|tm|t) (?P<t>\d+)(?: - (?P<any_elapsed>\d+) ?ms)?)?"
        rf"(?: wix (?P<maybe_wix>\d+))?\){_TIF}",
        source="https://github.com/CellProfiler/CellProfiler/issues/3725",
        examples=(
            "A - 01(fld 1 wv UV - DAPI z 3 time 2 - 2636ms).tif",
            "A - 01(fld 2 wv Blue - FITC z 3 time 1 - 1318ms).tif",
        ),
    ),
    Layout(
        name="IN Cell Analyzer, full names",
        regex=r"(?P<row>[A-P]|A[A-F])_(?P<col>\d{1,3})_f(?P<field>\d+)_c(?P<c>\d+)"
        rf"_x(?P<any_x>[^/]+?)_m(?P<any_m>[^/]+?)_z(?P<z>\d+)_t(?P<t>\d+){_TIF}",
        source="https://github.com/CellProfiler/CellProfiler/issues/3725",
        examples=("A_01_f2_c1_xUV_mDAPI_z3_t2.tif", "B_02_f1_c2_xBlue_mFITC_z2_t1.tif"),
    ),
    Layout(
        name="plates of the Broad Bioimage Benchmark Collection (SBS)",
        regex=r"Channel(?P<c>\d)-(?P<any_number>\d{2,4})-(?P<row>[A-P])-(?P<col>\d\d)"
        r"(?i:\.(?:tiff?|bmp))",
        source="https://github.com/CellProfiler/CellProfiler/issues/896",
        examples=("Channel1-01-A-01.tif", "Channel2-14-B-02.tif"),
    ),
    Layout(
        name="ScanR (Olympus)",
        regex=rf"(?P<well>{_WELL})--W(?P<maybe_number>\d{{5}})--P(?P<field>\d{{5}})"
        rf"--Z(?P<z>\d{{5}})--T(?P<t>\d{{5}})--(?P<c>[^/]+?)(?:\.ome)?{_TIF}",
        source="https://forum.image.sc/t/14872",
        examples=(
            "data/A1--W00001--P00001--Z00000--T00000--Alexa 488.tif",
            "data/A2--W00002--P00002--Z00000--T00000--DAPI.tif",
        ),
    ),
    Layout(
        name="ScanR (Olympus), without names of wells",
        regex=r"(?P<maybe_name>[^/]*?)--W(?P<well>\d{5})--P(?P<field>\d{5})--Z(?P<z>\d{5})--T(?P<t>\d{5})"
        rf"--(?P<c>[^/]+?)(?:\.ome)?{_TIF}",
        source="https://bio-formats.readthedocs.io/en/stable/formats/olympus-scanr.html",
        examples=(
            "data/--W00001--P00001--Z00000--T00000--cherry.tif",
            "data/--W00002--P00001--Z00000--T00000--nucleus-dapi.tif",
        ),
    ),
    Layout(
        name="Incucyte",
        regex=rf"(?P<maybe_name>[^/]+?)(?:_(?P<c>(?i:phase|green|red|orange|nir)))?_(?P<well>{_WELL})"
        rf"_(?P<field>\d+)_(?P<t>\d+d\d\dh\d\dm)(?:_(?P<tile>\d+))?{_TIF}",
        times={"t": "elapsed %dd%Hh%Mm"},
        source="https://github.com/Jay2owe/PyIncucyte",
        examples=("phase/VID1630_A1_1_00d00h00m.tif", "phase/VID1630_B12_2_01d00h15m.tif"),
    ),
    Layout(
        name="Incucyte, dates",
        regex=rf"(?P<maybe_name>[^/]+?)(?:_(?P<c>(?i:phase|green|red|orange|nir)))?_(?P<well>{_WELL})"
        rf"_(?P<field>\d+)_(?P<t>\d{{4}}y\d\dm\d\dd_\d\dh\d\dm){_TIF}",
        times={"t": "%Yy%mm%dd_%Hh%Mm"},
        source="https://github.com/Jay2owe/PyIncucyte",
        examples=("VID7_A1_1_2021y03m01d_12h00m.tif", "VID7_A2_1_2021y03m01d_18h30m.tif"),
    ),
    Layout(
        name="Cytation, Lionheart (Gen5)",
        regex=rf"(?P<well>{_WELL})(?:ROI(?P<maybe_roi>\d+))?_(?P<maybe_step>-?\d{{1,2}})"
        r"_(?P<maybe_channel>\d{1,2})_(?P<field>\d{1,3})(?:Z(?P<z>\d+))?_(?P<c>[^/]+?)"
        rf"_(?P<t>\d{{3,4}}){_TIF}",
        source="https://github.com/glencoesoftware/bioformats2raw/pull/223",
        examples=(
            "A1ROI1_01_1_1Z0_Confocal DAPI_001.tif",
            "A2ROI1_01_2_2Z1_Confocal RFP_001.tif",
        ),
        beside={
            "*_Stitched[[]*": "stitched images",
            "*_Tsf[[]*": "transformed images",
            "*_[0-9]_*[[]*": "processed images",
        },
    ),
    Layout(
        name="Cytation (Gen5 2)",
        regex=rf"(?P<well>{_WELL})_(?P<field>\d{{1,3}})(?:Z(?P<z>\d+))?_(?P<c>[^/]+?)"
        rf"_(?P<maybe_step>\d{{1,2}})_(?P<t>\d{{3}})_(?P<maybe_number>-?\d*){_TIF}",
        source="https://github.com/glencoesoftware/bioformats2raw/pull/223",
        examples=("A1_1Z0_DAPI_1_001_.tif", "A2_2Z1_GFP_1_001_.tif"),
        beside={"*_Stitched[[]*": "stitched images"},
    ),
    Layout(
        name="EVOS",
        regex=r"(?P<maybe_name>[^/]+)_(?P<maybe_kind>[A-Z]{1,3}\d?)_p(?P<t>\d+)(?:_z(?P<z>\d+))?"
        rf"_(?P<maybe_grid>\d+)_(?P<well>{_WELL})f(?P<field>\d\d)d(?P<c>\d){_TIF}",
        source="https://github.com/EinarOlafsson/spacr",
        examples=("scan_Plate_R_p02_z01_0_B03f01d0.TIF", "scan_Plate_R_p03_z02_0_B04f01d1.TIF"),
    ),
    Layout(
        name="ArrayScan, CellInsight (Cellomics), kinetic",
        regex=rf"(?P<maybe_name>[^/]*?)i3t(?P<t>\d{{3}})(?P<well>{_WELL})f(?P<field>\d{{2,3}})"
        r"d(?P<c>\d)(?i:\.(?:tiff?|dib))",
        source="https://bio-formats.readthedocs.io/en/stable/formats/cellomics.html",
        examples=("020506plateruni3t001A01f01d2.TIF", "020506plateruni3t002A02f01d0.TIF"),
    ),
    Layout(
        name="ArrayScan, CellInsight (Cellomics)",
        regex=rf"(?:(?P<maybe_name>[^/]+)_)?(?P<well>{_WELL})f(?P<field>\d{{1,3}})d(?P<c>\d)"
        r"(?:o(?P<maybe_object>\d))?(?i:\.(?:tiff?|dib))",
        source="https://github.com/CellProfiler/CellProfiler/issues/505",
        examples=("AS_09125_050116030001_D03f00d0.TIF", "AS_09125_050116030001_D04f01d1.TIF"),
    ),
    Layout(
        name="BD Pathway",
        regex=rf"Well (?P<well>{_WELL})/(?P<c>[^/]+?) - n(?P<n>\d{{6}}){_TIF}",
        source="https://github.com/CellProfiler/CellProfiler/issues/505",
        examples=("Well D11/DsRed - Confocal - n000000.tif", "Well D12/DAPI - n000001.tif"),
    ),
    Layout(
        name="Acquifer",
        regex=r"(?:WE(?P<any_we>\d+)--)?-(?P<well>[A-P]\d{3})--PO(?P<field>\d+)--LO(?P<t>\d+)"
        r"--CO(?P<c>\d+)--SL(?P<z>\d+)--PX(?P<any_px>\d+)--PW(?P<any_pw>\d+)--IN(?P<any_in>\d+)"
        r"--TM(?P<any_tm>\d+)--X(?P<any_x>\d+)--Y(?P<any_y>\d+)--Z(?P<any_z>\d+)--T(?P<any_t>\d+)"
        rf"(?:--WE(?P<any_we_2>\d+))?{_TIF}",
        source="https://github.com/Luxendo/acquifer-Fiji-examples-archive",
        examples=(
            "-A001--PO01--LO001--CO6--SL001--PX32500--PW0080--IN0020--TM244--X014580--Y011262"
            "--Z209501--T1374031802--WE00001.tif",
            "-A002--PO01--LO001--CO3--SL002--PX32500--PW0080--IN0020--TM244--X023590--Y011262"
            "--Z209601--T1374031810--WE00002.tif",
        ),
    ),
    Layout(
        name="NIS-Elements JOBS (Nikon)",
        regex=rf"(?:(?P<any_date>\d{{8}}_\d{{6}}_\d+)__)?Well(?P<well>{_WELL})"
        rf"(?:_Point(?P<maybe_well>{_WELL})_(?P<field>\d{{4}}))?_Channel(?P<c>[^/]+?)"
        rf"_Seq(?P<maybe_number>\d{{4}}){_TIF}",
        source="https://github.com/mobie/mobie-viewer-fiji/issues/972",
        examples=(
            "WellH06_PointH06_0007_ChannelDAPI_Seq0502.tiff",
            "WellH07_PointH07_0008_ChannelTRITC_Seq0503.tiff",
        ),
    ),
    # ------------------------------------------------------------------------ microscopes
    Layout(
        name="MetaMorph",
        regex=r"(?P<maybe_name>[^/]+?)(?=_w\d[A-Za-z]|_w\d+_[st]\d|_s\d+_t\d)(?:_w(?P<c>\d[^/]*?))?(?:_s(?P<field>\d+))?"
        r"(?:_t(?P<t>\d+))?(?i:\.(?:tiff?|stk))",
        source="https://bio-formats.readthedocs.io/en/stable/formats/metamorph-75-tiff.html",
        examples=("exp16_w1LED-BF--YFPcube--cam_s17_t35.TIF", "exp16_w2GFP_s18_t36.TIF"),
        beside=_THUMBS,
    ),
    Layout(
        name="Micro-Manager 2",
        regex=rf"(?:(?P<well>{_WELL})-Site_(?P<field>\d+)/img_channel(?P<c__2>\d{{3}})"
        r"_position(?P<maybe_position>\d{3})|(?:Pos(?P<position__2>\d+)/)?"
        r"img_channel(?P<c>\d{3})_position(?P<position>\d{3}))"
        rf"_time(?P<t>\d{{9}})_z(?P<z>\d{{3}}){_TIF}",
        source="https://micro-manager.org/Micro-Manager_File_Formats",
        examples=(
            "Pos0/img_channel000_position000_time000000000_z000.tif",
            "Pos2/img_channel001_position002_time000000005_z003.tif",
        ),
    ),
    Layout(
        name="Micro-Manager 1.4",
        regex=rf"(?:(?P<well>{_WELL})-Site_(?P<field>\d+)/|"
        r"(?P<maybe_label>[^/]*?)Pos_?(?P<position>\d+(?:_\d+)*)/)?"
        rf"img_(?P<t>\d{{9}})_(?P<c>[^/]+)_(?P<z>\d{{3}}){_TIF}",
        source="https://micro-manager.org/Micro-Manager_File_Formats",
        examples=("Pos0/img_000000000_DAPI_000.tif", "Pos1/img_000000001_Cy5_001.tif"),
    ),
    Layout(
        name="Micro-Manager, stacks",
        regex=rf"(?P<maybe_name>[^/]+?)_MMStack_(?:(?P<well>{_WELL})-Site_(?P<field>\d+)|"
        r"(?P<maybe_label>[^/]*?)Pos_?(?P<position>\d{3}_\d{3}|\d+))\.ome(?i:\.tiff?)",
        source="https://micro-manager.org/Micro-Manager_File_Formats",
        examples=("exp_1/exp_1_MMStack_Pos0.ome.tif", "exp_1/exp_1_MMStack_Pos1.ome.tif"),
    ),
    Layout(
        name="FluoView (Olympus)",
        regex=r"(?:(?P<maybe_name>[^/]+)\.oif\.files/)?s_(?=[CZT]\d{3})(?:C(?P<c>\d{3}))?"
        rf"(?:Z(?P<z>\d{{3}}))?(?:T(?P<t>\d{{3}}))?{_TIF}",
        source="https://bio-formats.readthedocs.io/en/stable/formats/olympus-fluoview-fv1000.html",
        examples=(
            "Image0001.oif.files/s_C001Z001T001.tif",
            "Image0001.oif.files/s_C002Z002T002.tif",
        ),
        beside={"s_Thumb_*": "thumbnails"},
    ),
    Layout(
        name="Leica Matrix Screener",
        regex=r"(?:slide--S(?P<maybe_slide__2>\d+)/)?(?:chamber--U(?P<row__2>\d+)--V(?P<col__2>\d+)/)?"
        r"(?:field--X(?P<tile_x__2>\d+)--Y(?P<tile_y__2>\d+)/)?image--L(?P<maybe_loop>\d+)"
        r"--S(?P<maybe_slide>\d+)--U(?P<row>\d+)--V(?P<col>\d+)--J(?P<maybe_job>\d+)"
        r"(?:--E(?P<maybe_e>\d+))?(?:--O(?P<maybe_o>\d+))?--X(?P<tile_x>\d+)--Y(?P<tile_y>\d+)"
        r"(?:--T(?P<t>\d+))?(?:--Z(?P<z>\d+))?--C(?P<c>\d+)(?:\.ome)?(?i:\.tiff?)",
        source="https://github.com/MartinHjelmare/leicaimage",
        examples=(
            "slide--S00/chamber--U00--V00/field--X00--Y00/image--L0000--S00--U00--V00--J15--E04"
            "--O01--X00--Y00--T0000--Z00--C00.ome.tif",
            "slide--S00/chamber--U00--V01/field--X01--Y02/image--L0000--S00--U00--V01--J15--E04"
            "--O01--X01--Y02--T0001--Z01--C01.ome.tif",
        ),
    ),
    Layout(
        name="Leica LAS X",
        regex=r"(?P<maybe_name>[^/]*?)(?:Series(?P<series>\d+)|Pos(?:ition)?(?P<position>\d+))?"
        r"(?:_[sS](?P<field>\d+))?(?:_m(?P<tile>\d+))?(?:_[tT](?P<t>\d+))?(?:_[zZ](?P<z>\d+))?(?:_RAW)?"
        rf"_ch(?P<c>\d\d)(?:_SV)?{_TIF}",
        source="https://github.com/rgerum/saenopy",
        examples=("Pos007_S001_t50_z00_ch00.tif", "Pos008_S001_t51_z01_ch01.tif"),
    ),
    Layout(
        name="CODEX, PhenoCycler, raw (Keyence)",
        regex=r"(?i:cyc)(?P<cycle>\d+)_(?i:reg)(?P<region>\d+)(?:_(?P<any_date>\d+_\d+))?/"
        r"(?:XY(?P<maybe_xy__2>\d+)/)?(?P<maybe_name>[^/]+?)(?:_XY(?P<maybe_xy>\d+))?_(?P<field>\d{5})"
        rf"_Z(?P<z>\d{{3}})_CH(?P<c>\d){_TIF}",
        source="https://help.codex.bio/codex/processor/technical-notes/expected-input",
        examples=(
            "cyc001_reg001_200216_112537/1_00001_Z001_CH1.tif",
            "cyc002_reg001_200216_152537/1_00002_Z002_CH2.tif",
        ),
    ),
    Layout(
        name="CODEX, PhenoCycler, processed tiles",
        regex=r"(?:reg(?P<region__2>\d+)_X(?P<tile_x__2>\d+)_Y(?P<tile_y__2>\d+)/)?reg(?P<region>\d{3})"
        r"_X(?P<tile_x>\d\d)_Y(?P<tile_y>\d\d)_t(?P<cycle>\d{3})_z(?P<z>\d{3})_c(?P<c>\d{3})"
        r"(?i:\.tiff?)",
        source="https://help.codex.bio/codex/processor/technical-notes/expected-output",
        examples=(
            "tiles/reg001_X01_Y01/reg001_X01_Y01_t001_z001_c001.tif",
            "tiles/reg001_X02_Y02/reg001_X02_Y02_t002_z002_c002.tif",
        ),
    ),
    Layout(
        name="CODEX, PhenoCycler, stitched",
        regex=r"(?:reg(?P<region__2>\d+)/)?reg(?P<region>\d{3})_cyc(?P<cycle>\d{3})_cha?(?P<c>\d{3})"
        r"(?:_(?P<maybe_marker>[^/]+))?(?i:\.tiff?)",
        source="https://help.codex.bio/codex/processor/technical-notes/expected-output",
        examples=(
            "stitched/reg001/reg001_cyc001_ch001_DAPI-1.tif",
            "stitched/reg001/reg001_cyc002_ch002_CD8.tif",
        ),
    ),
    Layout(
        name="Keyence BZ-X",
        regex=r"(?:XY(?P<position__2>\d+)/)?(?:T(?P<t__2>\d+)/)?(?:(?P<maybe_name>[^/]+?)_)??"
        r"(?:XY(?P<position>\d+)_)?(?:T(?P<t>\d{4})_)?(?:XY(?P<position__3>\d+)_)?"
        rf"(?:(?P<field>\d{{5}})_)?(?:Z(?P<z>\d{{3}})_)?CH(?P<c>\d){_TIF}",
        source="https://help.codex.bio/codex/processor/technical-notes/expected-input",
        examples=("10x_T0001_XY01_00001_Z001_CH2.tif", "10x_T0002_XY02_00002_Z002_CH3.tif"),
        beside={"*_Overlay.tif": "overlays of the channels"},
    ),
    Layout(
        name="Squid (Cephla)",
        regex=rf"(?:(?P<t>\d+)/)?(?P<well>{_WELL})_(?P<field>\d+)_(?P<z>\d+)"
        r"_(?P<c>(?:Fluorescence|BF|DF|DPC|Brightfield)[^/]*)(?i:\.(?:tiff?|bmp))",
        source="https://github.com/Cephla-Lab/Squid",
        examples=(
            "0/C5_0_0_Fluorescence_405_nm_Ex.tiff",
            "1/D6_2_3_BF_LED_matrix_full.tiff",
        ),
    ),
    Layout(
        name="Squid (Cephla), rows and columns of fields",
        regex=rf"(?:(?P<t>\d+)/)?(?P<well>{_WELL})_(?P<i>\d+)_(?P<j>\d+)_(?P<z>\d+)"
        r"_(?P<c>(?:Fluorescence|BF|DF|DPC|Brightfield)[^/]*)(?i:\.(?:tiff?|bmp))",
        source="https://github.com/Cephla-Lab/Squid",
        examples=(
            "0/C5_0_0_0_Fluorescence_405_nm_Ex.tiff",
            "1/D6_1_2_3_BF_LED_matrix_full.tiff",
        ),
    ),
    Layout(
        name="Squid (Cephla), regions",
        regex=r"(?:(?P<t>\d+)/)?(?P<region>[A-Za-z][^_/]*)_(?P<field>\d+)_(?P<z>\d+)"
        r"_(?P<c>(?:Fluorescence|BF|DF|DPC|Brightfield)[^/]*)(?i:\.(?:tiff?|bmp))",
        source="https://github.com/Cephla-Lab/Squid",
        examples=(
            "0/manual0_0_0_Fluorescence_405_nm_Ex.tiff",
            "1/manual1_1_1_BF_LED_matrix_full.tiff",
        ),
    ),
    Layout(
        name="ZEN, image export (Zeiss)",
        regex=r"(?P<maybe_name>[^/]+?)_(?=[sbtzcm]\d)(?:b(?P<block>\d+))?(?:s(?P<scene>\d+))?"
        rf"(?:t(?P<t>\d+))?(?:z(?P<z>\d+))?(?:c(?P<c>\d+))?(?:m(?P<tile>\d+))?"
        rf"(?:_?(?P<c__2>[A-Za-z][^_/]*))?(?:_(?P<maybe_number>\d))?_ORG{_TIF}",
        source="https://github.com/EinarOlafsson/spacr",
        examples=("Interleave-107_s15c3_ORG.tif", "Interleave-107_s16c4_ORG.tif"),
    ),
    Layout(
        name="ZEN, tiles as single images (Zeiss)",
        regex=r"(?P<maybe_name>[^/]+)_S(?P<scene>\d{5})_T(?P<tile>\d{5})_C(?P<c>\d{5})"
        rf"{_TIF}",
        source="https://github.com/zeiss-microscopy/OAD",
        examples=("mydata_S00001_T00001_C00001.tiff", "mydata_S00002_T00002_C00002.tiff"),
    ),
    Layout(
        name="ThorImage (Thorlabs)",
        regex=r"Chan(?P<c>[A-D])_(?P<maybe_site>\d{3,4})_(?P<maybe_tile>\d{3,4})_(?P<z>\d{3,4})"
        rf"_(?P<t>\d{{3,}}){_TIF}",
        source="https://github.com/catalystneuro/roiextractors",
        examples=("ChanA_0001_0001_0001_0001.tif", "ChanB_0001_0001_0002_0002.tif"),
        beside={"Chan?_Preview.tif": "previews"},
    ),
    Layout(
        name="Prairie View (Bruker), z stacks",
        regex=r"(?P<maybe_name>ZSeries[^/]*)_Cycle(?P<t>\d{5})_Ch(?P<c>\d)_(?P<z>\d{6})\.ome"
        r"(?i:\.tiff?)",
        source="https://bio-formats.readthedocs.io/en/stable/formats/prairie-tech-tiff.html",
        examples=(
            "ZSeries-07242019-1708-327_Cycle00001_Ch2_000001.ome.tif",
            "ZSeries-07242019-1708-327_Cycle00002_Ch3_000002.ome.tif",
        ),
        beside=_REFERENCES,
    ),
    Layout(
        name="Prairie View (Bruker)",
        regex=r"(?P<maybe_name>[^/]+)_Cycle(?P<cycle>\d{5})_Ch(?P<c>\d)_(?P<frame>\d{6})\.ome"
        r"(?i:\.tiff?)",
        source="https://bio-formats.readthedocs.io/en/stable/formats/prairie-tech-tiff.html",
        examples=(
            "TSeries-01242021-0952-003_Cycle00001_Ch2_000001.ome.tif",
            "TSeries-01242021-0952-003_Cycle00002_Ch3_000002.ome.tif",
        ),
        beside={**_REFERENCES, "*Source.tif": "images of the scanned line"},
    ),
    # ------------------------------------------------------------------------ light sheets
    Layout(
        name="TeraStitcher",
        regex=r"(?P<tile_y>\d{6})/(?P<tile_y__2>\d{6})_(?P<tile_x>\d{6})/(?P<tile_y__3>\d{6})"
        rf"_(?P<tile_x__2>\d{{6}})_(?P<z>\d{{6}}){_TIF}",
        source="https://github.com/abria/TeraStitcher/wiki/TeraConverter",
        examples=(
            "000000/000000_000000/000000_000000_000000.tif",
            "021930/021930_024560/021930_024560_000020.tif",
        ),
    ),
    Layout(
        name="SmartSPIM (LifeCanvas)",
        regex=r"Ex_(?P<c>\d+_(?:Em_\d+|Ch\d+))/(?P<tile_x>\d{4,7})/(?P<tile_x__2>\d{4,7})"
        rf"_(?P<tile_y>\d{{4,7}})/(?P<z>\d+){_TIF}",
        source="https://github.com/AllenNeuralDynamics/aind-smartspim-stitch",
        examples=(
            "Ex_488_Em_525/420330/420330_415850/000000.tiff",
            "Ex_561_Em_600/483090/483090_713010/000020.tiff",
        ),
    ),
    Layout(
        name="SmartSPIM (LifeCanvas), stitched",
        regex=r"Ex_(?P<c>\d+_(?:Em_\d+|Ch\d+))_stitched/(?P<maybe_name>[^/]*?)(?P<z>\d{3,})"
        rf"{_TIF}",
        source="https://pypi.org/project/zarrmony-smartspim",
        examples=("Ex_488_Ch0_stitched/000000.tif", "Ex_561_Ch1_stitched/000020.tif"),
    ),
    Layout(
        name="TeraStitcher or SmartSPIM, one channel",
        regex=r"(?P<tile_i>\d{4,7})/(?P<tile_i__2>\d{4,7})_(?P<tile_j>\d{4,7})/(?P<z>\d{4,6})"
        rf"{_TIF}",
        source="https://github.com/abria/TeraStitcher/wiki/TeraConverter",
        examples=("021930/021930_024560/000020.tif", "000000/000000_000000/000000.tif"),
    ),
    Layout(
        name="UltraMicroscope (Miltenyi, LaVision), filters",
        regex=r"(?P<maybe_name>[^/]+?)(?: ?\[P_(?P<position>\d+)\] ?)?"
        r"(?:\[(?P<tile>\d\d x \d\d)\])?"
        r"_C(?P<lightsheet>\d\d)_xyz-Table Z(?P<z>\d{4})_UltraII Filter(?P<c>\d{4})\.ome"
        r"(?i:\.tiff?)",
        source="https://clearanatomics.github.io/ClearMapDocs",
        examples=(
            "10-59-43_UltraII_raw_RawDataStack[00 x 01]_C01_xyz-Table Z0000_UltraII Filter0000"
            ".ome.tif",
            "10-59-43_UltraII_raw_RawDataStack[01 x 01]_C00_xyz-Table Z0001_UltraII Filter0001"
            ".ome.tif",
        ),
    ),
    Layout(
        name="UltraMicroscope (Miltenyi, LaVision)",
        regex=r"(?P<maybe_name>[^/]+?)(?: ?\[P_(?P<position>\d+)\] ?)?"
        r"(?:\[(?P<tile>\d\d x \d\d)\])?"
        r"(?:_C(?P<c>\d\d))?_xyz-Table Z(?P<z>\d{4})(?:\.ome)?(?i:\.tiff?)",
        source="https://clearanatomics.github.io/ClearMapDocs",
        examples=(
            "13-43-57_mosaic_UltraII[00 x 00]_C00_xyz-Table Z0000.ome.tif",
            "13-43-57_mosaic_UltraII[01 x 00]_C01_xyz-Table Z0001.ome.tif",
        ),
    ),
    Layout(
        name="mesoSPIM",
        regex=r"(?P<maybe_name>[^/]+?)_Mag(?P<maybe_zoom>[\d.]+)x_Tile(?P<tile>\d+)_Ch(?P<c>\d+)"
        r"_Sh(?P<lightsheet>\d+)_Rot(?P<angle>-?\d+)(?i:\.(?:tiff?|btf))",
        source="https://github.com/mesoSPIM/mesoSPIM-control",
        examples=(
            "CHICKADEE_Mag1.25x_Tile0_Ch561_Sh0_Rot0.tiff",
            "CHICKADEE_Mag1.25x_Tile1_Ch488_Sh1_Rot90.tiff",
        ),
    ),
    Layout(
        name="light sheets by angle (OpenSPIM, Multiview Reconstruction)",
        regex=r"(?P<maybe_name>[^/]+?)_TL(?P<t>\d+)(?:_Channel(?P<c>\d+))?"
        r"(?:_Illum(?P<illumination>\d+))?_Angle(?P<angle>\d+)(?:\.ome)?(?i:\.tiff?)",
        source="https://imagej.net/plugins/multiview-reconstruction",
        examples=("spim_TL18_Angle0.tif", "spim_TL19_Angle45.tif"),
    ),
    Layout(
        name="lattice light sheet (Janelia)",
        regex=r"(?P<maybe_name>[^/]+?)(?:_Iter_(?P<t__2>\d{3,4})(?:_(?P<t__3>\d{3,4}))?)?"
        r"_(?:(?P<c__2>Cam[A-Z]_ch\d+)|ch(?P<c>\d+))(?:_CAM(?P<any_cam>\d+))?_stack(?P<t>\d{4})"
        r"_(?P<any_laser>\d{3})nm_(?P<any_time>\d{7})msec_(?P<any_clock>\d{10})msecAbs"
        r"(?:_(?P<tile_x>-?\d{2,3})x_(?P<tile_y>-?\d{2,3})y_(?P<tile_z>-?\d{2,3})z"
        rf"_(?P<maybe_t>\d{{4}})t)?{_TIF}",
        source="https://llspy.readthedocs.io/en/latest/",
        examples=(
            "cell1_ch0_stack0000_488nm_0000000msec_0016966725msecAbs.tif",
            "cell1_ch1_stack0001_560nm_0004500msec_0016971225msecAbs.tif",
        ),
    ),
    Layout(
        name="SiMView",
        regex=r"(?:SPM(?P<maybe_specimen__2>\d\d)/)?(?:TM(?P<t__2>\d{5,6})/)?(?:VW(?P<view__2>\d+)/)?(?:LOC(?P<tile>\d{3})/)?"
        r"SP[MC](?P<maybe_specimen>\d{1,2})_TM(?P<t>\d{4,6})(?:_ANG(?P<angle>\d{3}))?"
        r"_CM(?P<camera>\d{1,2})(?:_CM(?P<maybe_camera>\d{1,2}))?"
        r"(?:_VW(?P<view>\d\d)|_CHN(?P<c>\d\d)(?:_CHN(?P<maybe_c>\d\d))?)"
        rf"(?:_PH(?P<maybe_phase>\d))?(?:_PLN(?P<z>\d{{4}}))?(?:\.fusedStack|\.ome)?{_TIF}",
        source="https://doi.org/10.1038/nprot.2015.111",
        examples=(
            "TM000000/SPM00_TM000000_CM00_CHN00.tif",
            "TM000001/SPM00_TM000001_CM01_CHN01.tif",
        ),
        beside={"*Projection*": "projections"},
    ),
    # --------------------------------------------------------------------------- archives
    Layout(
        name="Cell Tracking Challenge",
        regex=rf"(?:(?P<sequence>\d\d)/)?t(?P<t>\d{{3,4}}){_TIF}",
        source="https://public.celltrackingchallenge.net/documents/"
        "Naming%20and%20file%20content%20conventions.pdf",
        examples=("01/t000.tif", "02/t001.tif"),
        beside={
            "[0-9][0-9]_*/**": "masks",
        },
    ),
    Layout(
        name="Cell Tracking Challenge, annotations",
        regex=r"(?:(?P<sequence>\d\d)_(?P<maybe_kind>GT|ST|ERR_SEG|RES)/)?(?:(?:TRA|SEG)/)?"
        rf"(?:man_track|man_seg_?|mask)(?P<t>\d{{3,4}})(?:_(?P<z>\d{{3,4}}))?{_TIF}",
        source="https://public.celltrackingchallenge.net/documents/"
        "Naming%20and%20file%20content%20conventions.pdf",
        examples=("01_GT/TRA/man_track000.tif", "02_GT/TRA/man_track001.tif"),
    ),
    Layout(
        name="CellCognition",
        regex=r"(?:(?P<position__2>\d{4})/)?(?:(?P<maybe_name>[^/]+?)_)?P(?P<position>\d{4})"
        rf"_T(?P<t>\d{{5}})_C(?P<c>[^_/]+)_Z(?P<z>\d+)_S(?P<maybe_s>\d+){_TIF}",
        source="https://github.com/CellCognition/cecog",
        examples=("0037/P0037_T00001_Crfp_Z1_S1.tif", "0038/P0038_T00002_Cgfp_Z1_S1.tif"),
    ),
    Layout(
        name="SpaceTx (starfish)",
        regex=r"(?P<maybe_kind>[^/]+?)-(?:f|fov_)(?P<field>\d+)-(?:r(?P<round>\d+)-c(?P<c>\d+)"
        rf"|c(?P<c__2>\d+)-r(?P<round__2>\d+))-z(?P<z>\d+){_TIF}",
        source="https://spacetx-starfish.readthedocs.io/en/latest/",
        examples=("primary-fov_000-c0-r0-z0.tiff", "primary-fov_001-c1-r1-z1.tiff"),
    ),
    Layout(
        name="optical pooled screens",
        regex=r"(?:(?P<maybe_zoom__2>\d+X)_c(?P<cycle__2>\d+)-SBS-(?P<cycle__3>\d+)/)?"
        r"(?P<maybe_zoom>\d+X)_c(?P<cycle>\d+)-SBS-(?P<cycle__4>\d+)"
        rf"_(?P<well>{_WELL})_Tile-(?P<tile>\d+)(?:\.\w+)?{_TIF}",
        source="https://github.com/feldman4/OpticalPooledScreens",
        examples=(
            "10X_c1-SBS-1/10X_c1-SBS-1_A1_Tile-107.sbs.tif",
            "10X_c2-SBS-2/10X_c2-SBS-2_B2_Tile-108.sbs.tif",
        ),
    ),
    Layout(
        name="Vectra, PhenoImager (inForm)",
        regex=r"(?P<maybe_name>[^/]+?)_\[(?P<position>\d+,\d+)\]_component_data"
        rf"{_TIF}",
        source="https://akoyabio.github.io/phenoptr/",
        examples=(
            "Set4_1-6plex_[14146,33693]_component_data.tif",
            "Set4_1-6plex_[15206,60541]_component_data.tif",
        ),
        beside={"*_composite_image.*": "composites", "*_binary_seg_maps.*": "masks"},
    ),
    Layout(
        name="CosMx (NanoString)",
        regex=r"(?P<maybe_run>\d{8}_\d{6}_S\d+)_C902_P99_N99_F(?P<field>\d+)(?:_Z(?P<z>\d+))?"
        rf"{_TIF}",
        source="https://github.com/Nanostring-Biostats/CosMx-Analysis-Scratch-Space",
        examples=(
            "Morphology3D/20210907_180607_S2_C902_P99_N99_F031_Z001.TIF",
            "Morphology3D/20210907_180607_S2_C902_P99_N99_F032_Z002.TIF",
        ),
        beside={"CellLabels_*": "masks", "CompartmentLabels_*": "masks of compartments"},
    ),
    Layout(
        name="MERSCOPE (Vizgen)",
        regex=rf"mosaic_(?P<c>[^/]+)_z(?P<z>\d+){_TIF}",
        source="https://spatialdata.scverse.org/projects/io",
        examples=("mosaic_DAPI_z0.tif", "mosaic_PolyT_z1.tif"),
    ),
    Layout(
        name="Harmonized Landsat Sentinel-2 (HLS)",
        regex=r"(?:HLS(?:-VI)?\.(?P<maybe_product__2>[LS]30)\.(?P<tile__2>T\w{5})\.(?P<t__2>\d{7}T\d{6})"
        r"\.v(?P<maybe_version__2>\d\.\d)/)?HLS(?:-VI)?\.(?P<maybe_product>[LS]30)\.(?P<tile>T\w{5})"
        rf"\.(?P<t>\d{{7}}T\d{{6}})\.v(?P<maybe_version>\d\.\d)\.(?P<band>\w+){_TIF}",
        times={"t": "%Y%jT%H%M%S"},
        source="https://lpdaac.usgs.gov/documents/1698/HLS_User_Guide_V2.pdf",
        examples=(
            "HLS.S30.T10SEG.2020275T184911.v2.0/HLS.S30.T10SEG.2020275T184911.v2.0.B04.tif",
            "HLS.S30.T11SKU.2020280T184911.v2.0/HLS.S30.T11SKU.2020280T184911.v2.0.Fmask.tif",
        ),
    ),
    Layout(
        name="Sentinel-2 COGs (Element 84)",
        regex=r"(?:(?P<maybe_zone>\d{1,2})/(?P<maybe_latitude>[A-Z])/(?P<maybe_square>[A-Z]{2})/)?"
        r"(?:(?P<maybe_year>\d{4})/(?P<maybe_month>\d{1,2})/)?(?P<maybe_satellite>S2[A-D])"
        r"_(?P<tile>\d{1,2}[A-Z]{3})_(?P<t>\d{8})_(?P<maybe_number>\d)_(?P<maybe_level>L\d[AC])/"
        rf"(?P<band>\w+){_TIF}",
        times={"t": "%Y%m%d"},
        source="https://registry.opendata.aws/sentinel-2-l2a-cogs",
        examples=(
            "36/Q/WD/2020/7/S2A_36QWD_20200701_0_L2A/B02.tif",
            "36/Q/WD/2020/8/S2B_36QWD_20200806_0_L2A/SCL.tif",
        ),
        beside={"L2A_PVI.tif": "previews"},
    ),
    Layout(
        name="Sentinel-2 COGs (Element 84, Collection 1)",
        regex=r"(?:(?P<maybe_zone>\d{1,2})/(?P<maybe_latitude>[A-Z])/(?P<maybe_square>[A-Z]{2})/)?"
        r"(?:(?P<maybe_year>\d{4})/(?P<maybe_month>\d{1,2})/)?(?P<maybe_satellite>S2[A-D])"
        r"_T(?P<tile>\d{2}[A-Z]{3})_(?P<t>\d{8}T\d{6})_(?P<maybe_level>L\d[AC])/"
        rf"(?P<band>\w+){_TIF}",
        times={"t": "%Y%m%dT%H%M%S"},
        source="https://earth-search.aws.element84.com/v1/collections/sentinel-2-c1-l2a",
        examples=(
            "1/L/AH/2023/1/S2B_T01LAH_20230111T222752_L2A/TCI.tif",
            "1/L/AJ/2023/12/S2B_T01LAJ_20231217T222755_L2A/B02.tif",
        ),
        beside={"L2A_PVI.tif": "previews"},
    ),
    Layout(
        name="Sentinel-1 RTC (Indigo)",
        regex=r"(?:(?P<maybe_zone>\d{1,2})/(?P<maybe_latitude>[A-Z])/(?P<maybe_square>[A-Z]{2})/)?"
        r"(?:(?P<maybe_year>\d{4})/)?(?P<maybe_satellite>S1[A-D])_(?P<t>\d{8})"
        r"_(?P<tile>\d{1,2}[A-Z]{3})_(?P<maybe_orbit>ASC|DSC)/(?P<band>\w+)"
        rf"{_TIF}",
        times={"t": "%Y%m%d"},
        source="https://sentinel-s1-rtc-indigo-docs.s3-us-west-2.amazonaws.com/data_format.html",
        examples=(
            "10/S/DH/2017/S1A_20170104_10SDH_ASC/Gamma0_VV.tif",
            "10/S/EH/2017/S1B_20170116_10SEH_ASC/local_incident_angle.tif",
        ),
    ),
    Layout(
        name="OPERA (NASA JPL)",
        regex=r"(?:(?P<any_granule>OPERA_[^/]+)/)?OPERA_(?P<maybe_level>L\d)_(?P<maybe_product>[A-Za-z0-9-]+)"
        r"_(?P<tile>T\w{5}|T\d{3}-\d{6}-IW\d)_(?P<t>\d{8}T\d{6}Z)_(?P<any_produced>\d{8}T\d{6}Z)"
        rf"_(?P<maybe_satellite>\w+?)_30_v(?P<maybe_version>[\d.]+)_(?P<band>[\w-]+){_TIF}",
        times={"t": "%Y%m%dT%H%M%SZ"},
        source="https://www.jpl.nasa.gov/go/opera/products/",
        examples=(
            "OPERA_L3_DSWx-HLS_T11SKU_20230407T183201Z_20230410T000000Z_S2B_30_v1.0_B01_WTR.tif",
            "OPERA_L3_DSWx-HLS_T10SEG_20230412T183201Z_20230415T000000Z_S2A_30_v1.0_B02_BWTR.tif",
        ),
    ),
    Layout(
        name="Sentinel-2, granules",
        regex=r"T(?P<tile>\d\d[A-Z]{3})_(?P<t>\d{8}T\d{6})_(?P<band>[A-Z0-9]{3})"
        rf"(?:_(?P<maybe_resolution>\d\dm))?{_TIF}",
        times={"t": "%Y%m%dT%H%M%S"},
        source="https://sentiwiki.copernicus.eu/web/s2-products",
        examples=("T36QWD_20200701T080611_B02_10m.tif", "T36QWD_20200711T080611_B8A_20m.tif"),
        beside={"*_PVI.tif": "previews", "*_TCI.tif": "true colours", "*_TCI_*": "true colours"},
    ),
    Layout(
        name="Landsat (Collections 1 and 2)",
        regex=r"(?:(?P<maybe_satellite__2>L[COTEM]\d\d)_(?P<maybe_level__2>L\d[A-Z]{2})"
        r"_(?P<tile__2>\d{6})_(?P<t__2>\d{8})_(?P<any_processed>\d{8})"
        r"_(?P<maybe_collection__2>\d\d)_(?P<maybe_tier__2>T1|T2|RT)/)?"
        r"(?P<maybe_satellite>L[COTEM]\d\d)_(?P<maybe_level>L\d[A-Z]{2})"
        r"_(?P<tile>\d{6})_(?P<t>\d{8})_(?P<any_processed_2>\d{8})_(?P<maybe_collection>\d\d)"
        rf"_(?P<maybe_tier>T1|T2|RT)_(?P<band>\w+){_TIF}",
        times={"t": "%Y%m%d"},
        source="https://www.usgs.gov/landsat-missions/landsat-collection-2",
        examples=(
            "LC08_L2SP_044034_20200703_20200823_02_T1/"
            "LC08_L2SP_044034_20200703_20200823_02_T1_SR_B2.TIF",
            "LC08_L2SP_044034_20200719_20200911_02_T1/"
            "LC08_L2SP_044034_20200719_20200911_02_T1_SR_B3.TIF",
        ),
    ),
    Layout(
        name="Landsat (Analysis Ready Data)",
        regex=r"(?:(?P<any_scene>L[COTEM]\d\d_(?:CU|AK|HI)_[^/]+)/)?(?P<maybe_satellite>L[COTEM]\d\d)"
        r"_(?P<maybe_region>CU|AK|HI)_(?P<tile>\d{6})_(?P<t>\d{8})_(?P<any_processed>\d{8})"
        r"_(?P<maybe_collection>\d\d|C\d\d_V\d\d)_(?P<band>[A-Z]\w+)"
        rf"{_TIF}",
        times={"t": "%Y%m%d"},
        source="https://www.usgs.gov/landsat-missions/landsat-us-analysis-ready-data",
        examples=(
            "LC08_CU_003010_20200703_20210502_02_SR_B2.TIF",
            "LC08_CU_003011_20200719_20210503_02_QA_PIXEL.TIF",
        ),
    ),
    Layout(
        name="Digital Earth Australia",
        regex=r"ga_(?P<maybe_product>\w+?)_(?P<maybe_version>\d+-\d+-\d+)_(?P<tile>\d{6}|\d{2}[A-Z]{3})"
        rf"_(?P<t>\d{{4}}-\d\d-\d\d)_(?P<maybe_maturity>[a-z]+)_(?P<band>[\w-]+){_TIF}",
        times={"t": "%Y-%m-%d"},
        source="https://knowledge.dea.ga.gov.au/",
        examples=(
            "089/083/2020/07/03/ga_ls8c_nbart_3-2-1_089083_2020-07-03_final_band02.tif",
            "089/084/2020/08/04/ga_ls8c_nbart_3-2-1_089084_2020-08-04_final_band03.tif",
        ),
    ),
    Layout(
        name="CBERS",
        regex=r"(?:(?P<maybe_camera__2>[A-Z0-9]+)/(?P<path__3>\d{3})/(?P<row__3>\d{3})/)?"
        r"(?:CBERS_(?P<any_scene>[^/]+)/)?CBERS_(?P<maybe_satellite>4A?)_(?P<maybe_camera>[A-Z0-9]+)"
        r"_(?P<t>\d{8})_(?P<path>\d{3})_(?P<row>\d{3})_(?P<maybe_level>L\w+)_BAND(?P<band>\d+)"
        rf"{_TIF}",
        times={"t": "%Y%m%d"},
        source="https://registry.opendata.aws/cbers",
        examples=(
            "MUX/083/108/CBERS_4_MUX_20181212_083_108_L2/CBERS_4_MUX_20181212_083_108_L2_BAND5.tif",
            "MUX/084/109/CBERS_4_MUX_20190107_084_109_L2/CBERS_4_MUX_20190107_084_109_L2_BAND6.tif",
        ),
    ),
    Layout(
        name="ECOSTRESS, tiles",
        regex=r"ECOv\d{3}_L2T_(?P<maybe_product>[A-Z]+)_(?P<any_orbit>\d{5})_(?P<any_scene>\d{3})"
        r"_(?P<tile>\d{2}[A-Z]{3})_(?P<t>\d{8}T\d{6})_(?P<any_build>\d{4})_(?P<any_version>\d\d)"
        rf"_(?P<band>\w+){_TIF}",
        times={"t": "%Y%m%dT%H%M%S"},
        source="https://lpdaac.usgs.gov/products/eco_l2t_lstev002/",
        examples=(
            "ECOv002_L2T_LSTE_24479_001_11SLT_20221106T192829_0710_01_LST.tif",
            "ECOv002_L2T_LSTE_24494_003_11SKT_20221107T183901_0710_01_LST_err.tif",
        ),
    ),
    Layout(
        name="Maxar Open Data",
        regex=r"(?P<maybe_zone>\d\d)/(?P<tile>[0-3]{12})/(?P<t>\d{4}-\d\d-\d\d)"
        rf"/(?P<any_catalog>[0-9A-F]{{16}})-(?P<kind>visual|pan_analytic|ms_analytic){_TIF}",
        times={"t": "%Y-%m-%d"},
        source="https://registry.opendata.aws/maxar-open-data",
        examples=(
            "ard/33/031111210001/2023-05-23/10300100BF164000-visual.tif",
            "ard/33/031111210003/2023-05-24/10300100C1234500-ms_analytic.tif",
        ),
    ),
    Layout(
        name="Capella",
        regex=r"(?:(?P<any_scene>CAPELLA_[^/]+)/)?CAPELLA_(?P<maybe_satellite>C\d\d)"
        r"_(?P<maybe_mode>[A-Z]{2})_(?P<maybe_product>[A-Z]{3})_(?P<band>[HV]{2})_(?P<t>\d{14})"
        rf"_(?P<any_end>\d{{14}}){_TIF}",
        times={"t": "%Y%m%d%H%M%S"},
        source="https://registry.opendata.aws/capella_opendata",
        examples=(
            "CAPELLA_C02_SM_GEO_HH_20210119180015_20210119180018.tif",
            "CAPELLA_C05_SP_GEO_VV_20220119180015_20220119180018.tif",
        ),
    ),
    Layout(
        name="Copernicus DEM",
        regex=r"(?:(?P<any_folder>Copernicus_[^/]+)/)?Copernicus_DSM_COG_(?P<maybe_resolution>\d\d)"
        rf"_(?P<tile>[NS]\d\d_00_[EW]\d{{3}}_00)_DEM{_TIF}",
        source="https://registry.opendata.aws/copernicus-dem",
        examples=(
            "Copernicus_DSM_COG_10_N00_00_E006_00_DEM/Copernicus_DSM_COG_10_N00_00_E006_00_DEM.tif",
            "Copernicus_DSM_COG_10_S01_00_W007_00_DEM/Copernicus_DSM_COG_10_S01_00_W007_00_DEM.tif",
        ),
    ),
    Layout(
        name="WorldCover (ESA)",
        regex=r"(?:(?P<any_version>v\d{3})/(?P<any_year>\d{4})/map/)?ESA_WorldCover_10m_(?P<t>\d{4})"
        rf"_(?P<maybe_version>v\d{{3}})_(?P<tile>[NS]\d\d[EW]\d{{3}})_Map{_TIF}",
        times={"t": "%Y"},
        source="https://registry.opendata.aws/esa-worldcover-vito",
        examples=(
            "v100/2020/map/ESA_WorldCover_10m_2020_v100_N00E006_Map.tif",
            "v200/2021/map/ESA_WorldCover_10m_2021_v200_S03W009_Map.tif",
        ),
    ),
    Layout(
        name="land cover (Impact Observatory, Esri)",
        regex=r"(?:lc(?P<any_year>\d{4})/)?(?P<tile>\d{2}[A-Z])_(?P<t>\d{8})-(?P<any_end>\d{8})"
        rf"{_TIF}",
        times={"t": "%Y%m%d"},
        source="https://registry.opendata.aws/io-lulc",
        examples=("lc2020/10T_20200101-20210101.tif", "lc2021/11S_20210101-20220101.tif"),
    ),
    Layout(
        name="IMERG (GPM)",
        regex=r"(?P<maybe_product>3B-[^/]+?3IMERG)\.(?P<t>\d{8}-S\d{6})-E(?P<any_end>\d{6})"
        rf"(?:\.(?P<any_minute>\d{{2,4}}))?\.(?P<maybe_version>V\w+)(?:\.(?P<maybe_kind>[^/]+?))?{_TIF}",
        times={"t": "%Y%m%d-S%H%M%S"},
        source="https://gpm.nasa.gov/data/imerg",
        examples=(
            "3B-HHR-E.MS.MRG.3IMERG.20200101-S000000-E002959.0000.V06B.30min.tif",
            "3B-HHR-E.MS.MRG.3IMERG.20200101-S003000-E005959.0030.V06B.30min.tif",
        ),
    ),
    Layout(
        name="Landsat (before collections)",
        regex=r"(?:(?P<any_scene>L[COETM]\d{14}[A-Z]{3}\d\d)/)?(?P<maybe_satellite>L[COETM]\d)"
        rf"(?P<tile>\d{{6}})(?P<t>\d{{7}})(?P<any_station>[A-Z]{{3}}\d\d)_(?P<band>\w+){_TIF}",
        times={"t": "%Y%j"},
        source="https://www.usgs.gov/faqs/what-naming-convention-landsat-collections-level-1-scenes",
        examples=("LC80420342017167LGN00_B4.TIF", "LC80420342017183LGN01_B5.TIF"),
    ),
    Layout(
        name="PlanetScope",
        regex=r"(?P<t>\d{8}_\d{6})(?:_(?P<any_part>\d\d))?_(?P<maybe_satellite>[0-9a-f]{4})"
        rf"_(?P<maybe_level>[13][AB])_(?P<maybe_asset>Analytic\w*){_TIF}",
        times={"t": "%Y%m%d_%H%M%S"},
        source="https://docs.planet.com/data/imagery/planetscope",
        examples=(
            "20200701_183022_1035_3B_AnalyticMS.tif",
            "20200702_183111_1048_3B_AnalyticMS.tif",
        ),
        beside={"*_udm*": "masks"},
    ),
    Layout(
        name="NAIP",
        regex=r"m_(?P<tile>\d{7}_(?:ne|nw|se|sw)_\d{1,2})_(?P<maybe_resolution>[\dhm]+)_(?P<t>\d{8})"
        rf"(?:_(?P<any_processed>\d{{8}}))?{_TIF}",
        times={"t": "%Y%m%d"},
        source="https://github.com/stactools-packages/naip",
        examples=(
            "m_3211605_ne_11_060_20200415_20200730.tif",
            "m_3211605_nw_11_060_20200416_20200731.tif",
        ),
    ),
    Layout(
        name="MODIS, VIIRS (LP DAAC)",
        regex=r"(?P<maybe_product>(?:M[OCY]D|VNP|VJ1)\w+)\.A(?P<t>\d{7})\.(?P<tile>h\d\dv\d\d)"
        rf"\.(?P<maybe_version>\d{{3}})\.(?P<any_produced>\d{{13}})[._](?P<band>[^/]+?){_TIF}",
        times={"t": "%Y%j"},
        source="https://lpdaac.usgs.gov/data/get-started-data/collection-overview",
        examples=(
            "MOD13Q1.A2020177.h10v04.061.2020194001602.NDVI.tif",
            "MOD13Q1.A2020193.h11v04.061.2020210001602.EVI.tif",
        ),
    ),
)
"""All rows; where names fit several, the first is meant."""
