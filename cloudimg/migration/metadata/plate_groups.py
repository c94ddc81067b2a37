"""Attributes of the groups of a plate, its rows and its wells. Pure.

See https://ngff.openmicroscopy.org/0.5/index.html#plate-md and
https://ngff.openmicroscopy.org/0.4/index.html#plate-md.
"""

from __future__ import annotations

from typing import Any

from cloudimg.migration.metadata.facts import ImageFacts
from cloudimg.migration.plan.plate import Plate, in_order


def plate_attributes(plate: Plate, facts: ImageFacts, version: str) -> dict[str, Any]:
    """Metadata of the plate.

    It lists the wells that have files, and their rows and columns.
    """
    wells = [plate.wells[position].split("/") for position in plate.listed()]
    rows, columns = (in_order(names) for names in zip(*wells, strict=True))
    row_index, column_index = ({name: i for i, name in enumerate(each)} for each in (rows, columns))
    n_fields = plate.n_of_well // plate.n_acquisitions
    attributes: dict[str, Any] = {
        "name": facts.name or "plate",
        "version": version,
        "rows": [{"name": name} for name in rows],
        "columns": [{"name": name} for name in columns],
        "wells": [
            {
                "path": f"{row}/{column}",
                "rowIndex": row_index[row],
                "columnIndex": column_index[column],
            }
            for row, column in wells
        ],
        "field_count": n_fields,
    }
    if plate.acquisition_dim is not None:
        labels = facts.coordinates(plate.acquisition_dim)
        names = labels if len(labels) == plate.n_acquisitions else range(plate.n_acquisitions)
        attributes["acquisitions"] = [
            {"id": number, "name": f"{name}", "maximumfieldcount": n_fields}
            for number, name in enumerate(names)
        ]
    return {"plate": attributes}


def well_attributes(plate: Plate, version: str) -> dict[str, Any]:
    """Metadata of a well, the same for all: acquisition by acquisition, the fields of each."""
    n_fields = plate.n_of_well // plate.n_acquisitions
    is_one = plate.acquisition_dim is None
    images = [
        {"path": str(i), **({} if is_one else {"acquisition": i // n_fields})}
        for i in range(plate.n_of_well)
    ]
    return {"well": {"images": images, "version": version}}
