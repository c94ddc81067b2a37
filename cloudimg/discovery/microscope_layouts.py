"""How other microscopes, and programs for them, name files: rows of `layouts.LAYOUTS`. Pure."""

from __future__ import annotations

from cloudimg.discovery.layout import REFERENCES, THUMBS, TIF, WELL, Layout

ROWS = (
    Layout(
        name="MetaMorph",
        regex=r"(?P<maybe_name>[^/]+?)(?=_w\d[A-Za-z]|_w\d+_[st]\d|_s\d+_t\d)(?:_w(?P<c>\d[^/]*?))?(?:_s(?P<field>\d+))?"
        r"(?:_t(?P<t>\d+))?(?i:\.(?:tiff?|stk))",
        source="https://bio-formats.readthedocs.io/en/stable/formats/metamorph-75-tiff.html",
        examples=("exp16_w1LED-BF--YFPcube--cam_s17_t35.TIF", "exp16_w2GFP_s18_t36.TIF"),
        beside=THUMBS,
    ),
    Layout(
        name="Micro-Manager 2",
        regex=rf"(?:(?P<well>{WELL})-Site_(?P<field>\d+)/img_channel(?P<c__2>\d{{3}})"
        r"_position(?P<maybe_position>\d{3})|(?:Pos(?P<position__2>\d+)/)?"
        r"img_channel(?P<c>\d{3})_position(?P<position>\d{3}))"
        rf"_time(?P<t>\d{{9}})_z(?P<z>\d{{3}}){TIF}",
        source="https://micro-manager.org/Micro-Manager_File_Formats",
        examples=(
            "Pos0/img_channel000_position000_time000000000_z000.tif",
            "Pos2/img_channel001_position002_time000000005_z003.tif",
        ),
        index_files=("{folder}metadata.txt",),
    ),
    Layout(
        name="Micro-Manager 1.4",
        regex=rf"(?:(?P<well>{WELL})-Site_(?P<field>\d+)/|"
        r"(?P<maybe_label>[^/]*?)Pos_?(?P<position>\d+(?:_\d+)*)/)?"
        rf"img_(?P<t>\d{{9}})_(?P<c>[^/]+)_(?P<z>\d{{3}}){TIF}",
        source="https://micro-manager.org/Micro-Manager_File_Formats",
        examples=("Pos0/img_000000000_DAPI_000.tif", "Pos1/img_000000001_Cy5_001.tif"),
        index_files=("{folder}metadata.txt",),
    ),
    Layout(
        name="Micro-Manager, stacks",
        regex=rf"(?P<maybe_name>[^/]+?)_MMStack_(?:(?P<well>{WELL})-Site_(?P<field>\d+)|"
        r"(?P<maybe_label>[^/]*?)Pos_?(?P<position>\d{3}_\d{3}|\d+))\.ome(?i:\.tiff?)",
        source="https://micro-manager.org/Micro-Manager_File_Formats",
        examples=("exp_1/exp_1_MMStack_Pos0.ome.tif", "exp_1/exp_1_MMStack_Pos1.ome.tif"),
    ),
    Layout(
        name="FluoView (Olympus)",
        regex=r"(?:(?P<maybe_name>[^/]+)\.oif\.files/)?s_(?=[CZT]\d{3})(?:C(?P<c>\d{3}))?"
        rf"(?:Z(?P<z>\d{{3}}))?(?:T(?P<t>\d{{3}}))?{TIF}",
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
        rf"_ch(?P<c>\d\d)(?:_SV)?{TIF}",
        source="https://github.com/rgerum/saenopy",
        examples=("Pos007_S001_t50_z00_ch00.tif", "Pos008_S001_t51_z01_ch01.tif"),
    ),
    Layout(
        name="CODEX, PhenoCycler, raw (Keyence)",
        regex=r"(?i:cyc)(?P<cycle>\d+)_(?i:reg)(?P<region>\d+)(?:_(?P<any_date>\d+_\d+))?/"
        r"(?:XY(?P<maybe_xy__2>\d+)/)?(?P<maybe_name>[^/]+?)(?:_XY(?P<maybe_xy>\d+))?_(?P<field>\d{5})"
        rf"_Z(?P<z>\d{{3}})_CH(?P<c>\d){TIF}",
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
        rf"(?:(?P<field>\d{{5}})_)?(?:Z(?P<z>\d{{3}})_)?CH(?P<c>\d){TIF}",
        source="https://help.codex.bio/codex/processor/technical-notes/expected-input",
        examples=("10x_T0001_XY01_00001_Z001_CH2.tif", "10x_T0002_XY02_00002_Z002_CH3.tif"),
        beside={"*_Overlay.tif": "overlays of the channels"},
    ),
    Layout(
        name="Squid (Cephla)",
        regex=rf"(?:(?P<t>\d+)/)?(?P<well>{WELL})_(?P<field>\d+)_(?P<z>\d+)"
        r"_(?P<c>(?:Fluorescence|BF|DF|DPC|Brightfield)[^/]*)(?i:\.(?:tiff?|bmp))",
        source="https://github.com/Cephla-Lab/Squid",
        examples=(
            "0/C5_0_0_Fluorescence_405_nm_Ex.tiff",
            "1/D6_2_3_BF_LED_matrix_full.tiff",
        ),
    ),
    Layout(
        name="Squid (Cephla), rows and columns of fields",
        regex=rf"(?:(?P<t>\d+)/)?(?P<well>{WELL})_(?P<i>\d+)_(?P<j>\d+)_(?P<z>\d+)"
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
        rf"(?:_?(?P<c__2>[A-Za-z][^_/]*))?(?:_(?P<maybe_number>\d))?_ORG{TIF}",
        source="https://github.com/EinarOlafsson/spacr",
        examples=("Interleave-107_s15c3_ORG.tif", "Interleave-107_s16c4_ORG.tif"),
    ),
    Layout(
        name="ZEN, tiles as single images (Zeiss)",
        regex=r"(?P<maybe_name>[^/]+)_S(?P<scene>\d{5})_T(?P<tile>\d{5})_C(?P<c>\d{5})"
        rf"{TIF}",
        source="https://github.com/zeiss-microscopy/OAD",
        examples=("mydata_S00001_T00001_C00001.tiff", "mydata_S00002_T00002_C00002.tiff"),
    ),
    Layout(
        name="ThorImage (Thorlabs)",
        regex=r"Chan(?P<c>[A-D])_(?P<maybe_site>\d{3,4})_(?P<maybe_tile>\d{3,4})_(?P<z>\d{3,4})"
        rf"_(?P<t>\d{{3,}}){TIF}",
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
        beside=REFERENCES,
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
        beside={**REFERENCES, "*Source.tif": "images of the scanned line"},
    ),
    # ------------------------------------------------------------------------ light sheets
    Layout(
        name="TeraStitcher",
        regex=r"(?P<tile_y>\d{6})/(?P<tile_y__2>\d{6})_(?P<tile_x>\d{6})/(?P<tile_y__3>\d{6})"
        rf"_(?P<tile_x__2>\d{{6}})_(?P<z>\d{{6}}){TIF}",
        source="https://github.com/abria/TeraStitcher/wiki/TeraConverter",
        examples=(
            "000000/000000_000000/000000_000000_000000.tif",
            "021930/021930_024560/021930_024560_000020.tif",
        ),
    ),
    Layout(
        name="SmartSPIM (LifeCanvas)",
        regex=r"Ex_(?P<c>\d+_(?:Em_\d+|Ch\d+))/(?P<tile_x>\d{4,7})/(?P<tile_x__2>\d{4,7})"
        rf"_(?P<tile_y>\d{{4,7}})/(?P<z>\d+){TIF}",
        source="https://github.com/AllenNeuralDynamics/aind-smartspim-stitch",
        examples=(
            "Ex_488_Em_525/420330/420330_415850/000000.tiff",
            "Ex_561_Em_600/483090/483090_713010/000020.tiff",
        ),
    ),
    Layout(
        name="SmartSPIM (LifeCanvas), stitched",
        regex=r"Ex_(?P<c>\d+_(?:Em_\d+|Ch\d+))_stitched/(?P<maybe_name>[^/]*?)(?P<z>\d{3,})"
        rf"{TIF}",
        source="https://pypi.org/project/zarrmony-smartspim",
        examples=("Ex_488_Ch0_stitched/000000.tif", "Ex_561_Ch1_stitched/000020.tif"),
    ),
    Layout(
        name="TeraStitcher or SmartSPIM, one channel",
        regex=r"(?P<tile_i>\d{4,7})/(?P<tile_i__2>\d{4,7})_(?P<tile_j>\d{4,7})/(?P<z>\d{4,6})"
        rf"{TIF}",
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
        rf"_(?P<maybe_t>\d{{4}})t)?{TIF}",
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
        rf"(?:_PH(?P<maybe_phase>\d))?(?:_PLN(?P<z>\d{{4}}))?(?:\.fusedStack|\.ome)?{TIF}",
        source="https://doi.org/10.1038/nprot.2015.111",
        examples=(
            "TM000000/SPM00_TM000000_CM00_CHN00.tif",
            "TM000001/SPM00_TM000001_CM01_CHN01.tif",
        ),
        beside={"*Projection*": "projections"},
    ),
)
