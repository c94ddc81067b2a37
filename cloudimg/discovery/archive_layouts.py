"""How archives of images of the Earth name files: rows of `layouts.LAYOUTS`. Pure."""

from __future__ import annotations

from cloudimg.discovery.layout import TIF, WELL, Layout

ROWS = (
    Layout(
        name="Cell Tracking Challenge",
        regex=rf"(?:(?P<sequence>\d\d)/)?t(?P<t>\d{{3,4}}){TIF}",
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
        rf"(?:man_track|man_seg_?|mask)(?P<t>\d{{3,4}})(?:_(?P<z>\d{{3,4}}))?{TIF}",
        source="https://public.celltrackingchallenge.net/documents/"
        "Naming%20and%20file%20content%20conventions.pdf",
        examples=("01_GT/TRA/man_track000.tif", "02_GT/TRA/man_track001.tif"),
    ),
    Layout(
        name="CellCognition",
        regex=r"(?:(?P<position__2>\d{4})/)?(?:(?P<maybe_name>[^/]+?)_)?P(?P<position>\d{4})"
        rf"_T(?P<t>\d{{5}})_C(?P<c>[^_/]+)_Z(?P<z>\d+)_S(?P<maybe_s>\d+){TIF}",
        source="https://github.com/CellCognition/cecog",
        examples=("0037/P0037_T00001_Crfp_Z1_S1.tif", "0038/P0038_T00002_Cgfp_Z1_S1.tif"),
    ),
    Layout(
        name="SpaceTx (starfish)",
        regex=r"(?P<maybe_kind>[^/]+?)-(?:f|fov_)(?P<field>\d+)-(?:r(?P<round>\d+)-c(?P<c>\d+)"
        rf"|c(?P<c__2>\d+)-r(?P<round__2>\d+))-z(?P<z>\d+){TIF}",
        source="https://spacetx-starfish.readthedocs.io/en/latest/",
        examples=("primary-fov_000-c0-r0-z0.tiff", "primary-fov_001-c1-r1-z1.tiff"),
    ),
    Layout(
        name="optical pooled screens",
        regex=r"(?:(?P<maybe_zoom__2>\d+X)_c(?P<cycle__2>\d+)-SBS-(?P<cycle__3>\d+)/)?"
        r"(?P<maybe_zoom>\d+X)_c(?P<cycle>\d+)-SBS-(?P<cycle__4>\d+)"
        rf"_(?P<well>{WELL})_Tile-(?P<tile>\d+)(?:\.\w+)?{TIF}",
        source="https://github.com/feldman4/OpticalPooledScreens",
        examples=(
            "10X_c1-SBS-1/10X_c1-SBS-1_A1_Tile-107.sbs.tif",
            "10X_c2-SBS-2/10X_c2-SBS-2_B2_Tile-108.sbs.tif",
        ),
    ),
    Layout(
        name="Vectra, PhenoImager (inForm)",
        regex=r"(?P<maybe_name>[^/]+?)_\[(?P<position>\d+,\d+)\]_component_data"
        rf"{TIF}",
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
        rf"{TIF}",
        source="https://github.com/Nanostring-Biostats/CosMx-Analysis-Scratch-Space",
        examples=(
            "Morphology3D/20210907_180607_S2_C902_P99_N99_F031_Z001.TIF",
            "Morphology3D/20210907_180607_S2_C902_P99_N99_F032_Z002.TIF",
        ),
        beside={"CellLabels_*": "masks", "CompartmentLabels_*": "masks of compartments"},
    ),
    Layout(
        name="MERSCOPE (Vizgen)",
        regex=rf"mosaic_(?P<c>[^/]+)_z(?P<z>\d+){TIF}",
        source="https://spatialdata.scverse.org/projects/io",
        examples=("mosaic_DAPI_z0.tif", "mosaic_PolyT_z1.tif"),
    ),
    Layout(
        name="Harmonized Landsat Sentinel-2 (HLS)",
        regex=r"(?:HLS(?:-VI)?\.(?P<maybe_product__2>[LS]30)\.(?P<tile__2>T\w{5})\.(?P<t__2>\d{7}T\d{6})"
        r"\.v(?P<maybe_version__2>\d\.\d)/)?HLS(?:-VI)?\.(?P<maybe_product>[LS]30)\.(?P<tile>T\w{5})"
        rf"\.(?P<t>\d{{7}}T\d{{6}})\.v(?P<maybe_version>\d\.\d)\.(?P<band>\w+){TIF}",
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
        rf"(?P<band>\w+){TIF}",
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
        rf"(?P<band>\w+){TIF}",
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
        rf"{TIF}",
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
        rf"_(?P<maybe_satellite>\w+?)_30_v(?P<maybe_version>[\d.]+)_(?P<band>[\w-]+){TIF}",
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
        rf"(?:_(?P<maybe_resolution>\d\dm))?{TIF}",
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
        rf"_(?P<maybe_tier>T1|T2|RT)_(?P<band>\w+){TIF}",
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
        rf"{TIF}",
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
        rf"_(?P<t>\d{{4}}-\d\d-\d\d)_(?P<maybe_maturity>[a-z]+)_(?P<band>[\w-]+){TIF}",
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
        rf"{TIF}",
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
        rf"_(?P<band>\w+){TIF}",
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
        rf"/(?P<any_catalog>[0-9A-F]{{16}})-(?P<kind>visual|pan_analytic|ms_analytic){TIF}",
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
        rf"_(?P<any_end>\d{{14}}){TIF}",
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
        rf"_(?P<tile>[NS]\d\d_00_[EW]\d{{3}}_00)_DEM{TIF}",
        source="https://registry.opendata.aws/copernicus-dem",
        examples=(
            "Copernicus_DSM_COG_10_N00_00_E006_00_DEM/Copernicus_DSM_COG_10_N00_00_E006_00_DEM.tif",
            "Copernicus_DSM_COG_10_S01_00_W007_00_DEM/Copernicus_DSM_COG_10_S01_00_W007_00_DEM.tif",
        ),
    ),
    Layout(
        name="WorldCover (ESA)",
        regex=r"(?:(?P<any_version>v\d{3})/(?P<any_year>\d{4})/map/)?ESA_WorldCover_10m_(?P<t>\d{4})"
        rf"_(?P<maybe_version>v\d{{3}})_(?P<tile>[NS]\d\d[EW]\d{{3}})_Map{TIF}",
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
        rf"{TIF}",
        times={"t": "%Y%m%d"},
        source="https://registry.opendata.aws/io-lulc",
        examples=("lc2020/10T_20200101-20210101.tif", "lc2021/11S_20210101-20220101.tif"),
    ),
    Layout(
        name="IMERG (GPM)",
        regex=r"(?P<maybe_product>3B-[^/]+?3IMERG)\.(?P<t>\d{8}-S\d{6})-E(?P<any_end>\d{6})"
        rf"(?:\.(?P<any_minute>\d{{2,4}}))?\.(?P<maybe_version>V\w+)(?:\.(?P<maybe_kind>[^/]+?))?{TIF}",
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
        rf"(?P<tile>\d{{6}})(?P<t>\d{{7}})(?P<any_station>[A-Z]{{3}}\d\d)_(?P<band>\w+){TIF}",
        times={"t": "%Y%j"},
        source="https://www.usgs.gov/faqs/what-naming-convention-landsat-collections-level-1-scenes",
        examples=("LC80420342017167LGN00_B4.TIF", "LC80420342017183LGN01_B5.TIF"),
    ),
    Layout(
        name="PlanetScope",
        regex=r"(?P<t>\d{8}_\d{6})(?:_(?P<any_part>\d\d))?_(?P<maybe_satellite>[0-9a-f]{4})"
        rf"_(?P<maybe_level>[13][AB])_(?P<maybe_asset>Analytic\w*){TIF}",
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
        rf"(?:_(?P<any_processed>\d{{8}}))?{TIF}",
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
        rf"\.(?P<maybe_version>\d{{3}})\.(?P<any_produced>\d{{13}})[._](?P<band>[^/]+?){TIF}",
        times={"t": "%Y%j"},
        source="https://lpdaac.usgs.gov/data/get-started-data/collection-overview",
        examples=(
            "MOD13Q1.A2020177.h10v04.061.2020194001602.NDVI.tif",
            "MOD13Q1.A2020193.h11v04.061.2020210001602.EVI.tif",
        ),
    ),
    Layout(
        name="Blue Marble (NASA)",
        regex=r"world(?P<maybe_kind>(?:\.topo)?(?:\.bathy)?)\.(?P<t>\d{6})\.3x21600x21600"
        r"\.(?P<tile>[A-D][12])(?:_geo)?\.(?i:tiff?|png|jpe?g)",
        times={"t": "%Y%m"},
        source="https://visibleearth.nasa.gov/collection/1484/blue-marble",
        examples=(
            "world.topo.bathy.200407.3x21600x21600.A1.png",
            "world.topo.bathy.200411.3x21600x21600.D2.png",
        ),
    ),
    Layout(
        name="Black Marble (NASA)",
        regex=r"BlackMarble_(?P<t>\d{4})_(?P<tile>[A-D][12])(?P<maybe_kind>(?:_geo)?(?:_gray)?)"
        r"\.(?i:tiff?|png|jpe?g)",
        times={"t": "%Y"},
        source="https://earthobservatory.nasa.gov/features/NightLights",
        examples=("BlackMarble_2012_C1_geo.tif", "BlackMarble_2016_C1_geo.tif"),
    ),
)
