"""Finding cells by Cellpose (Stringer, Wang, Michaelos and Pachitariu 2021), versions 4.

Nothing is ever downloaded: the file of weights has to be there, in Cellpose's own folder of models
(CELLPOSE_LOCAL_MODELS_PATH, or `.cellpose/models` of the user) or wherever a path leads.
"""

import os
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import ProcessingError
from tasks.images import check_finite
from tasks.methods import CellposeParameters

_lock = threading.Lock()
"""One image at a time: the network takes all that the processor or the graphics card has."""


def segment_by_cellpose(
    image: NDArray[Any], parameters: CellposeParameters, pixel_size_um: float | None
) -> NDArray[np.integer[Any]]:
    """Find cells with a neural network.

    Parameters
    ----------
    image
        (H, W) phase contrast, any real dtype.
    pixel_size_um
        What the recording tells.

    Returns
    -------
    NDArray
        (H, W) labels, 0 for background.

    Raises
    ------
    ProcessingError
        Where Cellpose is not installed, its weights are not there, or a pixel is not finite.
    """
    check_finite(image)
    diameter = parameters.diameter_um and parameters.diameter_um / parameters.scale(pixel_size_um)
    with _lock:
        model = _model(weights(parameters.model))
        labels, *_ = model.eval(
            image.astype(np.float32),
            diameter=diameter,
            flow_threshold=parameters.flow_threshold,
            cellprob_threshold=parameters.cellprob_threshold,
        )
    return np.asarray(labels)


def weights(model: str) -> Path:
    """File of a model's weights.

    Raises
    ------
    ProcessingError
        Where it is not there; Cellpose itself would try to download another model instead.
    """
    folder = Path(os.environ.get("CELLPOSE_LOCAL_MODELS_PATH") or Path.home() / ".cellpose" / "models")
    path = folder / model
    if not path.is_file():
        raise ProcessingError(
            f"Cellpose's model {model!r} is not on this machine: {path} is no file. Put its weights there, or name "
            "the file by its absolute path as the parameter segmentation.model"
        )
    return path


@lru_cache(maxsize=1)
def _model(path: Path) -> Any:  # noqa: ANN401 - of a package without types
    try:
        from cellpose import core, models
    except ImportError as error:
        raise ProcessingError(
            f"the segmentation method 'cellpose' needs packages that are not there ({error}); install them with "
            "pip install 'pyama-backend[cellpose]', or choose the method 'texture'"
        ) from error
    return models.CellposeModel(gpu=core.use_gpu(), pretrained_model=os.fspath(path))
