"""Index files as instruments write them, made here; structure as their makers describe it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.support import seed

Put = Callable[[str, bytes], Any]
PLANE = seed.encode(np.arange(64 * 48, dtype=np.uint16).reshape(64, 48))
HARMONY = "http://www.perkinelmer.com/PEHH/HarmonyV5"


def harmony_name(row: int, col: int, field: int, z: int, c: int) -> str:
    return f"r{row:02d}c{col:02d}f{field:02d}p{z:02d}-ch{c}sk1fk1fl1.tiff"


def harmony_index(
    images: Iterable[tuple[int, int, int, int, int]],
    *,
    channels: Mapping[int, str],
    position: Callable[[int], tuple[float, float]] = lambda field: (1e-4 * field, -2e-4 * field),
    with_maps: bool = True,
) -> bytes:
    """An Index.idx.xml; each image is row, column, field, plane and channel, counted from 1."""

    def shared(c: int) -> str:
        return (
            f"<ChannelName>{channels[c]}</ChannelName>"
            '<ImageResolutionX Unit="m">2.9695E-07</ImageResolutionX>'
            '<ImageResolutionY Unit="m">2.9695E-07</ImageResolutionY>'
            '<ObjectiveMagnification Unit="">20</ObjectiveMagnification>'
            f'<ExposureTime Unit="s">0.{c}</ExposureTime>'
        )

    entries = "".join(f'<Entry ChannelID="{c}">{shared(c)}</Entry>' for c in channels)
    planes = []
    for row, col, field, z, c in images:
        x, y = position(field)
        planes.append(
            f'<Image Version="1"><id>{row:02d}{col:02d}K1F{field}P{z}R{c}</id><State>Ok</State>'
            f"<URL>{harmony_name(row, col, field, z, c)}</URL>"
            f"<Row>{row}</Row><Col>{col}</Col><FieldID>{field}</FieldID><PlaneID>{z}</PlaneID>"
            f"<TimepointID>1</TimepointID><ChannelID>{c}</ChannelID>"
            f"{'' if with_maps else shared(c)}"
            f'<PositionX Unit="m">{x!r}</PositionX><PositionY Unit="m">{y!r}</PositionY>'
            f'<PositionZ Unit="m">{1e-6 * (z - 1)!r}</PositionZ>'
            f'<AbsPositionZ Unit="m">{0.1354 + 1e-6 * z!r}</AbsPositionZ>'
            f'<MeasurementTimeOffset Unit="s">{10 * field + c}</MeasurementTimeOffset>'
            f"<AbsTime>2020-02-20T12:00:{field:02d}.5000000+01:00</AbsTime></Image>"
        )
    wells = '<Wells><Well><id>0203</id><Image id="0203K1F1P1R1" /></Well></Wells>'
    maps = f"<Maps><Map>{entries}</Map></Maps>" if with_maps else ""
    return (
        f'\ufeff<?xml version="1.0" encoding="utf-8"?>\n<EvaluationInputData xmlns="{HARMONY}">'
        f"{wells}{maps}<Images>{''.join(planes)}</Images></EvaluationInputData>\n"
    ).encode()


def micromanager_14(
    planes: Sequence[tuple[int, str, int]], *, channels: Sequence[str], x: float, y: float
) -> bytes:
    """A metadata.txt of version 1.4; each plane is time, name of the channel and slice."""
    summary = {
        "MicroManagerVersion": "1.4.22",
        "ChNames": list(channels),
        "PixelSize_um": 0.65,
        "z-step_um": 2,
        "Interval_ms": 5000,
    }
    content: dict[str, Any] = {"Summary": summary}
    for t, name, z in planes:
        content[f"FrameKey-{t}-{channels.index(name)}-{z}"] = {
            "FileName": f"img_{t:09d}_{name}_{z:03d}.tif",
            "Channel": name,
            "XPositionUm": x,
            "YPositionUm": y,
            "ZPositionUm": 2.0 * z + 100,
            "Exposure-ms": 10 + channels.index(name),
            "ElapsedTime-ms": 5000 * t + 10 * z,
            "PixelSizeUm": 0.65,
            "Time": f"2012-12-04 14:16:{t:02d} -0500",
        }
    return json.dumps(content, indent=1).encode()


def micromanager_2(
    position: int, planes: Sequence[tuple[int, int, int]], *, channels: Sequence[str]
) -> bytes:
    """A metadata.txt of version 2; each plane is time, channel and slice."""
    content: dict[str, Any] = {
        "Summary": {"MicroManagerVersion": "2.0.1", "ChNames": list(channels), "z-step_um": 0.5}
    }
    for t, c, z in planes:
        name = f"Pos{position}/img_channel{c:03d}_position{position:03d}_time{t:09d}_z{z:03d}.tif"
        content[f"Coords-{name}"] = {"time": t, "channel": c, "z": z, "position": position}
        content[f"Metadata-{name}"] = {
            "XPositionUm": 1000.0 * position,
            "YPositionUm": 7.5,
            "ZPositionUm": 0.5 * z,
            "Exposure-ms": 20.0,
            "ElapsedTime-ms": 1000.0 * t,
            "PixelSizeUm": 0.1625,
            "ReceivedTime": f"2019-05-13 16:31:{t:02d}.420 -0700",
            "UserData": {"Core": {"type": "STRING", "scalar": "x"}},
        }
    return json.dumps(content).encode()


def mlf(records: Iterable[Mapping[str, Any]]) -> bytes:
    """A MeasurementData.mlf of records with the attributes of Yokogawa and the name of a file."""
    lines = []
    for record in records:
        attrs = "".join(f' bts:{k}="{v}"' for k, v in record.items() if k != "name")
        lines.append(f"<bts:MeasurementRecord{attrs}>{record['name']}</bts:MeasurementRecord>")
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<bts:MeasurementData bts:Version="1.0"'
        ' xmlns:bts="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0">\n'
        + "\n".join(lines)
        + "\n</bts:MeasurementData>"
    ).encode()


def yokogawa_name(well: str, field: int, z: int, c: int) -> str:
    return f"plate_{well}_T0001F{field:03d}L01A{c:02d}Z{z:02d}C{c:02d}.tif"


def yokogawa_records(
    wells: Sequence[str], n_fields: int, n_z: int, n_c: int, *, distance_um: float = 500
) -> list[dict[str, Any]]:
    """Records of all images of a small plate."""
    return [
        {
            "Type": "IMG",
            "Time": f"2023-09-18T13:58:{field:02d}.25+02:00",
            "Column": int(well[1:]),
            "Row": ord(well[0]) - ord("A") + 1,
            "TimePoint": 1,
            "FieldIndex": field,
            "ZIndex": z,
            "X": distance_um * field,
            "Y": 10.0,
            "Z": 1.5 * (z - 1),
            "Ch": c,
            "name": yokogawa_name(well, field, z, c),
        }
        for well in wells
        for field in range(1, n_fields + 1)
        for z in range(1, n_z + 1)
        for c in range(1, n_c + 1)
    ]


def htd(
    channels: Sequence[str], *, wells: Sequence[str], n_sites: int = 1, n_z: int = 1, n_t: int = 1
) -> bytes:
    """The .HTD of a plate of 96 wells."""
    rows = []
    for row in range(8):
        flags = (str(f"{'ABCDEFGH'[row]}{col:02d}" in wells).upper() for col in range(1, 13))
        rows.append(f'"WellsSelection{row + 1}", {", ".join(flags)}')
    waves = [f'"WaveName{i}", "{name}"' for i, name in enumerate(channels, 1)]
    collected = [f'"WaveCollect{i}", 1' for i in range(1, len(channels) + 1)]
    lines = [
        '"HTSInfoFile", Version 1.0',
        '"Description", "made for a test, with a comma"',
        f'"TimePoints", {n_t}',
        f'"ZSeries", {str(n_z > 1).upper()}',
        f'"ZSteps", {n_z}',
        '"XWells", 12',
        '"YWells", 8',
        *rows,
        '"Sites", TRUE',
        f'"XSites", {n_sites}',
        '"YSites", 1',
        f'"SiteSelection1", {", ".join(["TRUE"] * n_sites)}',
        '"Waves", TRUE',
        f'"NWavelengths", {len(channels)}',
        *waves,
        *collected,
        '"EndFile"',
    ]
    return "\r\n".join(lines).encode()
