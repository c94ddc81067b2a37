"""TIFFs built byte by byte: any combination of tags over any stored bytes."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

SHORT, LONG, ASCII = 3, 4, 2


@dataclass(frozen=True, kw_only=True)
class RawTiff:
    """One page of one TIFF, described by its tags."""

    width: int
    height: int
    bits: int | Sequence[int] = 8
    """BitsPerSample, of all samples or of each."""
    sample_format: int | Sequence[int] | None = 1
    """SampleFormat, of all samples or of each; None leaves the tag out."""
    samples: int = 1
    byteorder: str = "<"
    is_separate: bool = False
    rows_per_strip: int | None = None
    tile: tuple[int, int] | None = None
    """Height and width."""
    compression: int = 1
    predictor: int | None = None
    fill_order: int | None = None
    photometric: int | None = None
    tags: Mapping[int, tuple[int, Sequence[int] | bytes]] = field(default_factory=dict)
    """Further tags: type and values."""

    @property
    def segment_sizes(self) -> list[int]:
        """Uncompressed size of each segment in bytes (TIFF 6.0: rows begin at whole bytes)."""
        bits = self._bits
        planes = [[n] for n in bits] if self.is_separate else [bits]
        if self.tile is not None:
            high, wide = self.tile
            count = math.ceil(self.height / high) * math.ceil(self.width / wide)
            return [high * math.ceil(wide * sum(p) / 8) for p in planes for _ in range(count)]
        step = self.rows_per_strip or self.height
        rows = [min(step, self.height - y) for y in range(0, self.height, step)]
        return [n * math.ceil(self.width * sum(p) / 8) for p in planes for n in rows]

    @property
    def _bits(self) -> list[int]:
        bits = [self.bits] if isinstance(self.bits, int) else list(self.bits)
        return bits * self.samples if len(bits) == 1 else bits

    def build(self, segments: Sequence[bytes]) -> bytes:
        """The file with these stored segments."""
        at = 8
        offsets = []
        for segment in segments:
            offsets.append(at)
            at += len(segment) + len(segment) % 2
        photometric = self.photometric
        if photometric is None:
            photometric = 2 if self.samples >= 3 else 1
        tags: dict[int, tuple[int, Sequence[int] | bytes]] = {
            256: (LONG, [self.width]),
            257: (LONG, [self.height]),
            258: (SHORT, self._bits),
            259: (SHORT, [self.compression]),
            262: (SHORT, [photometric]),
            277: (SHORT, [self.samples]),
            284: (SHORT, [2 if self.is_separate else 1]),
        }
        n_extra = self.samples - (3 if photometric in (2, 6) else 1)
        if n_extra > 0:
            tags[338] = SHORT, [0] * n_extra
        if self.tile is not None:
            tags |= {322: (LONG, [self.tile[1]]), 323: (LONG, [self.tile[0]])}
            tags |= {324: (LONG, offsets), 325: (LONG, [len(s) for s in segments])}
        else:
            tags[278] = LONG, [self.rows_per_strip or self.height]
            tags |= {273: (LONG, offsets), 279: (LONG, [len(s) for s in segments])}
        if self.sample_format is not None:
            kinds = self.sample_format
            kinds = [kinds] * self.samples if isinstance(kinds, int) else kinds
            tags[339] = SHORT, kinds
        for tag, value in ((317, self.predictor), (266, self.fill_order)):
            if value is not None:
                tags[tag] = SHORT, [value]
        tags |= self.tags
        order = self.byteorder
        head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at)
        body = b"".join(segment + bytes(len(segment) % 2) for segment in segments)
        return head + body + self._directory(tags, at)

    def _directory(self, tags: Mapping[int, tuple[int, Sequence[int] | bytes]], at: int) -> bytes:
        order = self.byteorder
        after = at + 2 + 12 * len(tags) + 4
        entries, values = b"", b""
        for tag, (kind, content) in sorted(tags.items()):
            if isinstance(content, bytes):
                data = content
            else:
                data = b"".join(
                    struct.pack(order + {SHORT: "H", LONG: "I"}[kind], n) for n in content
                )
            entries += struct.pack(order + "HHI", tag, kind, len(content))
            if len(data) <= 4:
                entries += data.ljust(4, b"\0")
            else:
                entries += struct.pack(order + "I", after + len(values))
                values += data + bytes(len(data) % 2)
        return struct.pack(order + "H", len(tags)) + entries + bytes(4) + values


def noise_bytes(n_bytes: int, seed: int = 1) -> bytes:
    """Bytes of every value: valid samples of any format."""
    return np.random.default_rng(seed).integers(0, 256, n_bytes, np.uint8).tobytes()


def with_bits_reversed(data: bytes) -> bytes:
    """Each byte with its bits in the opposite order, as FillOrder 2 stores it."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8)).reshape(-1, 8)
    return np.packbits(bits[:, ::-1]).tobytes()
