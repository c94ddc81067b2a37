"""`LAYOUTS`: the table of namings that instruments and archives are known to use. Pure."""

from __future__ import annotations

from cloudimg.discovery import archive_layouts, microscope_layouts, screening_layouts

LAYOUTS = (*screening_layouts.ROWS, *microscope_layouts.ROWS, *archive_layouts.ROWS)
"""All rows; where names fit several, the first is meant."""
