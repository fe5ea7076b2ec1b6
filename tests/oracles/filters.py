"""Oracle of the filters: which cells stay in the table."""

import pandas as pd


def touches_border(row: "pd.Series[float]", height: int, width: int, margin: int) -> bool:
    """Whether a box enters the margin of the image."""
    return bool(
        row.bbox_x0 < margin or row.bbox_y0 < margin or row.bbox_x1 > width - margin or row.bbox_y1 > height - margin
    )


def kept_cells(table: pd.DataFrame, height: int, width: int, min_frames: int, margin: int) -> set[int]:
    """Cells seen in enough frames and never in the margin."""
    return {
        cell
        for cell in set(table["cell"].tolist())
        if (rows := table[table["cell"] == cell])["frame"].nunique() >= min_frames
        and not any(touches_border(row, height, width, margin) for _, row in rows.iterrows())
    }
