"""How screening microscopes and plate readers name files: rows of `layouts.LAYOUTS`. Pure."""

from __future__ import annotations

from cloudimg.discovery.layout import GUID, THUMBS, TIF, WELL, WELL_OF_ANY_CASE, Layout

ROWS = (
    Layout(
        name="Opera Phenix, Operetta (Harmony)",
        regex=r"(?:r(?P<row__2>\d\d)c(?P<col__2>\d\d)/)?r(?P<row>\d\d)c(?P<col>\d\d)"
        r"f(?P<field>\d{2,3})p(?P<z>\d{2,3})(?:rc(?P<maybe_rc>\d+))?-ch(?P<c>\d{1,2})"
        rf"(?:sk(?P<t>\d+)fk(?P<maybe_fk>\d+)fl(?P<maybe_fl>\d+)|t(?P<t__2>\d+)){TIF}",
        source="https://forum.image.sc/t/16389",
        examples=(
            "Images/r04c17f01p07-ch1sk1fk1fl1.tiff",
            "Images/r04c18f01p07-ch2sk3fk1fl1.tiff",
        ),
        index_files=("{folders}Index.idx.xml", "{folders}Index.xml"),
    ),
    Layout(
        name="Operetta, Opera (Columbus)",
        regex=r"(?P<row>\d{3})(?P<col>\d{3})-(?P<field>\d+)-(?P<n>\d{3})(?P<z>\d{3})(?P<c>\d{3})"
        rf"{TIF}",
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
        rf"_(?P<well>{WELL})_s(?P<field>\d+)_w(?P<c>\d+)_z(?P<z>\d+){TIF}",
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
        rf"(?:(?P<maybe_plate>[^/]+)_)?(?P<well>{WELL_OF_ANY_CASE})(?=_[sw]\d|{GUID})"
        rf"(?:_s(?P<field>\d+))?"
        rf"(?:_w(?P<c>\d{{1,2}}?))?(?:_z(?P<z__2>\d+))?(?:_t(?P<t__2>\d+))?"
        rf"(?:_?(?P<any_guid>{GUID}))?{TIF}",
        source="https://github.com/CellProfiler/CellProfiler/issues/505",
        examples=(
            "20220209-exp50-test2_B01_s1_w16DE341F2-7E20-4CE1-859F-E368584F24DB.tif",
            "20220209-exp50-test2_B02_s2_w26DE341F2-7E20-4CE1-859F-E368584F24DC.tif",
        ),
        beside={**THUMBS, "ZStep_0/*": "projections"},
        index_files=("{folders}{maybe_plate}.HTD",),
    ),
    Layout(
        name="ImageXpress (MetaXpress), one channel and site",
        regex=r"(?i:time_?point)_(?P<t>\d+)/(?:(?i:zstep)_(?P<z>\d+)/)?"
        rf"(?:(?P<maybe_plate>[^/]+)_)?(?P<well>{WELL}){TIF}",
        source="https://ezstitcher.readthedocs.io/en/latest/appendices/microscope_formats.html",
        examples=("TimePoint_1/plate_A01.TIF", "TimePoint_2/plate_A02.TIF"),
        beside={**THUMBS, "ZStep_0/*": "projections"},
        index_files=("{folders}{maybe_plate}.HTD",),
    ),
    Layout(
        name="CellVoyager CV7000, CV8000 (Yokogawa)",
        regex=rf"(?:(?P<maybe_plate>[^/]+)_)?(?P<well>{WELL})_T(?P<t>\d{{4}})F(?P<field>\d{{3,4}})"
        r"L(?P<maybe_timeline>\d\d)A(?P<maybe_action>\d\d)Z(?P<z>\d{2,3})C(?P<c>\d\d)"
        rf"{TIF}",
        source="https://github.com/fractal-analytics-platform/fractal-tasks-core",
        examples=(
            "210305NAR005AAN_210416_164828_B11_T0001F006L01A04Z14C01.tif",
            "210305NAR005AAN_210416_164828_C11_T0001F006L01A05Z14C02.tif",
        ),
        beside={"DC_*": "images of the cameras", "SC_*": "images of the illumination"},
        index_files=("{folders}MeasurementData.mlf",),
    ),
    Layout(
        name="CQ1, CellVoyager CV1000 (Yokogawa)",
        regex=r"(?:(?P<maybe_name>[^/]*)-)?W(?P<well>\d{1,4})F(?P<field>\d{3,4})T(?P<t>\d{4})Z(?P<z>\d{2,3})"
        rf"C(?P<c>\d){TIF}",
        source="https://forum.image.sc/t/52615",
        examples=("Image/W0001F0001T0001Z001C1.tif", "Image/W0002F0001T0001Z002C1.tif"),
        beside={"Projection/*": "projections"},
    ),
    Layout(
        name="IN Cell Analyzer",
        regex=r"(?:(?P<maybe_plate>[^/]+)_)?(?P<row>[A-P]|A[A-F]) - (?P<col>\d{1,3})"
        r"\(fld (?P<field>\d+)(?: wv (?P<c>[^()/]+?))?(?: z (?P<z>\d+))?(?: -)?"
        r"(?: (?:time|tm|t) (?P<t>\d+)(?: - (?P<any_elapsed>\d+) ?ms)?)?"
        rf"(?: wix (?P<maybe_wix>\d+))?\){TIF}",
        source="https://github.com/CellProfiler/CellProfiler/issues/3725",
        examples=(
            "A - 01(fld 1 wv UV - DAPI z 3 time 2 - 2636ms).tif",
            "A - 01(fld 2 wv Blue - FITC z 3 time 1 - 1318ms).tif",
        ),
    ),
    Layout(
        name="IN Cell Analyzer, full names",
        regex=r"(?P<row>[A-P]|A[A-F])_(?P<col>\d{1,3})_f(?P<field>\d+)_c(?P<c>\d+)"
        rf"_x(?P<any_x>[^/]+?)_m(?P<any_m>[^/]+?)_z(?P<z>\d+)_t(?P<t>\d+){TIF}",
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
        regex=rf"(?P<well>{WELL})--W(?P<maybe_number>\d{{5}})--P(?P<field>\d{{5}})"
        rf"--Z(?P<z>\d{{5}})--T(?P<t>\d{{5}})--(?P<c>[^/]+?)(?:\.ome)?{TIF}",
        source="https://forum.image.sc/t/14872",
        examples=(
            "data/A1--W00001--P00001--Z00000--T00000--Alexa 488.tif",
            "data/A2--W00002--P00002--Z00000--T00000--DAPI.tif",
        ),
    ),
    Layout(
        name="ScanR (Olympus), without names of wells",
        regex=r"(?P<maybe_name>[^/]*?)--W(?P<well>\d{5})--P(?P<field>\d{5})--Z(?P<z>\d{5})--T(?P<t>\d{5})"
        rf"--(?P<c>[^/]+?)(?:\.ome)?{TIF}",
        source="https://bio-formats.readthedocs.io/en/stable/formats/olympus-scanr.html",
        examples=(
            "data/--W00001--P00001--Z00000--T00000--cherry.tif",
            "data/--W00002--P00001--Z00000--T00000--nucleus-dapi.tif",
        ),
    ),
    Layout(
        name="Incucyte",
        regex=rf"(?P<maybe_name>[^/]+?)(?:_(?P<c>(?i:phase|green|red|orange|nir)))?_(?P<well>{WELL})"
        rf"_(?P<field>\d+)_(?P<t>\d+d\d\dh\d\dm)(?:_(?P<tile>\d+))?{TIF}",
        times={"t": "elapsed %dd%Hh%Mm"},
        source="https://github.com/Jay2owe/PyIncucyte",
        examples=("phase/VID1630_A1_1_00d00h00m.tif", "phase/VID1630_B12_2_01d00h15m.tif"),
    ),
    Layout(
        name="Incucyte, dates",
        regex=rf"(?P<maybe_name>[^/]+?)(?:_(?P<c>(?i:phase|green|red|orange|nir)))?_(?P<well>{WELL})"
        rf"_(?P<field>\d+)_(?P<t>\d{{4}}y\d\dm\d\dd_\d\dh\d\dm){TIF}",
        times={"t": "%Yy%mm%dd_%Hh%Mm"},
        source="https://github.com/Jay2owe/PyIncucyte",
        examples=("VID7_A1_1_2021y03m01d_12h00m.tif", "VID7_A2_1_2021y03m01d_18h30m.tif"),
    ),
    Layout(
        name="Cytation, Lionheart (Gen5)",
        regex=rf"(?P<well>{WELL})(?:ROI(?P<maybe_roi>\d+))?_(?P<maybe_step>-?\d{{1,2}})"
        r"_(?P<maybe_channel>\d{1,2})_(?P<field>\d{1,3})(?:Z(?P<z>\d+))?_(?P<c>[^/]+?)"
        rf"_(?P<t>\d{{3,4}}){TIF}",
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
        regex=rf"(?P<well>{WELL})_(?P<field>\d{{1,3}})(?:Z(?P<z>\d+))?_(?P<c>[^/]+?)"
        rf"_(?P<maybe_step>\d{{1,2}})_(?P<t>\d{{3}})_(?P<maybe_number>-?\d*){TIF}",
        source="https://github.com/glencoesoftware/bioformats2raw/pull/223",
        examples=("A1_1Z0_DAPI_1_001_.tif", "A2_2Z1_GFP_1_001_.tif"),
        beside={"*_Stitched[[]*": "stitched images"},
    ),
    Layout(
        name="EVOS",
        regex=r"(?P<maybe_name>[^/]+)_(?P<maybe_kind>[A-Z]{1,3}\d?)_p(?P<t>\d+)(?:_z(?P<z>\d+))?"
        rf"_(?P<maybe_grid>\d+)_(?P<well>{WELL})f(?P<field>\d\d)d(?P<c>\d){TIF}",
        source="https://github.com/EinarOlafsson/spacr",
        examples=("scan_Plate_R_p02_z01_0_B03f01d0.TIF", "scan_Plate_R_p03_z02_0_B04f01d1.TIF"),
    ),
    Layout(
        name="ArrayScan, CellInsight (Cellomics), kinetic",
        regex=rf"(?P<maybe_name>[^/]*?)i3t(?P<t>\d{{3}})(?P<well>{WELL})f(?P<field>\d{{2,3}})"
        r"d(?P<c>\d)(?i:\.(?:tiff?|dib))",
        source="https://bio-formats.readthedocs.io/en/stable/formats/cellomics.html",
        examples=("020506plateruni3t001A01f01d2.TIF", "020506plateruni3t002A02f01d0.TIF"),
    ),
    Layout(
        name="ArrayScan, CellInsight (Cellomics)",
        regex=rf"(?:(?P<maybe_name>[^/]+)_)?(?P<well>{WELL})f(?P<field>\d{{1,3}})d(?P<c>\d)"
        r"(?:o(?P<maybe_object>\d))?(?i:\.(?:tiff?|dib))",
        source="https://github.com/CellProfiler/CellProfiler/issues/505",
        examples=("AS_09125_050116030001_D03f00d0.TIF", "AS_09125_050116030001_D04f01d1.TIF"),
    ),
    Layout(
        name="BD Pathway",
        regex=rf"Well (?P<well>{WELL})/(?P<c>[^/]+?) - n(?P<n>\d{{6}}){TIF}",
        source="https://github.com/CellProfiler/CellProfiler/issues/505",
        examples=("Well D11/DsRed - Confocal - n000000.tif", "Well D12/DAPI - n000001.tif"),
    ),
    Layout(
        name="Acquifer",
        regex=r"(?:WE(?P<any_we>\d+)--)?-(?P<well>[A-P]\d{3})--PO(?P<field>\d+)--LO(?P<t>\d+)"
        r"--CO(?P<c>\d+)--SL(?P<z>\d+)--PX(?P<any_px>\d+)--PW(?P<any_pw>\d+)--IN(?P<any_in>\d+)"
        r"--TM(?P<any_tm>\d+)--X(?P<any_x>\d+)--Y(?P<any_y>\d+)--Z(?P<any_z>\d+)--T(?P<any_t>\d+)"
        rf"(?:--WE(?P<any_we_2>\d+))?{TIF}",
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
        regex=rf"(?:(?P<any_date>\d{{8}}_\d{{6}}_\d+)__)?Well(?P<well>{WELL})"
        rf"(?:_Point(?P<maybe_well>{WELL})_(?P<field>\d{{4}}))?_Channel(?P<c>[^/]+?)"
        rf"_Seq(?P<maybe_number>\d{{4}}){TIF}",
        source="https://github.com/mobie/mobie-viewer-fiji/issues/972",
        examples=(
            "WellH06_PointH06_0007_ChannelDAPI_Seq0502.tiff",
            "WellH07_PointH07_0008_ChannelTRITC_Seq0503.tiff",
        ),
    ),
)
