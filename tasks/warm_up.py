"""Compile the kernels ahead of the first run: `python -m tasks.warm_up`.

numba compiles a kernel when it is first called and keeps the result on disk, beside the source or in the user's cache.
An installation does it once, so that no run has to wait.
"""

from time import monotonic

import numpy as np

from tasks.configuration import Channels, FluorescenceChannel, PhaseChannel, ScienceParameters
from tasks.features import FLUORESCENCE_FEATURES, PHASE_FEATURES
from tasks.fitting.catalog import FITTING_MODELS
from tasks.fitting.fit import fit_traces
from tasks.fitting.models import curve
from tasks.fitting.request import FitSpecification
from tasks.frames import measure_frame
from tasks.linking import make_linker
from tasks.table_rows import join_rows, split_rows, truths, whole_numbers

_COMMON_DTYPE = np.uint16


def compile_kernels() -> float:
    """Call every kernel once on a small frame of the common pixel type, and return the seconds it took."""
    start = monotonic()
    y, x = np.mgrid[:96, :96]
    texture = np.where((y - 48) ** 2 + (x - 48) ** 2 < 30**2, 1000 * ((x + y) & 1), (x ^ y) & 3)
    images = np.stack([texture, x + y]).astype(_COMMON_DTYPE)
    channels = Channels(
        phase=PhaseChannel(channel=0, features=list(PHASE_FEATURES)),
        fluorescence=[FluorescenceChannel(channel=1, features=list(FLUORESCENCE_FEATURES))],
    )
    by_default = ScienceParameters(erosion_size=1)
    by_others = ScienceParameters.model_validate({"segmentation": "texture", "tracking": "overlap"})
    for parameters in (by_default, by_others):
        linker = make_linker(parameters)
        for _ in range(2):
            frame = measure_frame(images, channels, parameters, pixel_size_um=1.0)
            frame.backgrounds[1].image()
            for cells in linker.link(frame.labelled, (0, 0)):
                frame.labelled.paint(cells)
    _merge_a_row()
    _fit_a_trace()
    return monotonic() - start


def _fit_a_trace() -> None:
    times_h = np.arange(8.0)
    for model in FITTING_MODELS.values():
        fit_traces(times_h, times_h, np.array([0, 8]), FitSpecification.of(model))
        curve(model, times_h, {one.name: one.default for one in model.parameters})


def _merge_a_row() -> None:
    rows = split_rows(np.array(bytearray(b"7,True\n")), 2)
    join_rows(rows, np.flatnonzero(truths(rows, 1, "good")), [1, 0])
    whole_numbers(rows, 0, "cell")


if __name__ == "__main__":
    print(f"Kernels are ready ({compile_kernels():.1f} s).")
