"""The methods of segmentation and of tracking: their names, what they are good for, and their parameters.

A method is one entry in a registry. This module is light, so that whoever lists methods or checks parameters needs
no kernels; what a method does is a function of another module, which is loaded when it is first used.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks.errors import InvalidParametersError
from tasks.registry import Registry, resolve

LARGEST_NUMBER = 2**31 - 1
"""Largest whole number of a request: nothing here counts as far, and the orchestrator keeps none beyond 64 bits."""

Length = Annotated[float, Field(ge=0, le=100)]
"""A length in µm."""

PositiveLength = Annotated[float, Field(ge=0.01, le=100)]
"""A length in µm, not 0."""

SurfaceArea = Annotated[float, Field(ge=0, le=1e6)]
"""An area in µm²."""


class MethodParameters(BaseModel):
    """Base of the parameters of a method, which it is told by."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    method: str

    @field_validator("*")
    @classmethod
    def _not_too_large(cls, value: object) -> object:
        """Hold whole numbers to what can be kept, also in the fields of plugins that set no limit."""
        if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
            raise ValueError(f"allowed are at most {LARGEST_NUMBER}")
        return value

    def check(self, pixel_size_um: float | None) -> None:
        """Hold the parameters against the recording; raises `InvalidParametersError` where they do not fit."""


class ScaledParameters(MethodParameters):
    """Base of parameters with lengths in µm."""

    pixel_size_um: Annotated[float, Field(ge=0.001, le=100)] | None = Field(
        None, description="Size of a pixel (µm); default: what the recording tells"
    )

    def check(self, pixel_size_um: float | None) -> None:
        """Make sure that the size of a pixel is known."""
        self.scale(pixel_size_um)

    def scale(self, pixel_size_um: float | None) -> float:
        """Size of a pixel in µm, given what the recording tells.

        Raises
        ------
        InvalidParametersError
            Where nobody tells.
        """
        scale = self.pixel_size_um or pixel_size_um
        if scale is None:
            raise InvalidParametersError(
                f"pixel_size_um: the recording does not tell the size of its pixels, which the method {self.method!r} "
                f'needs; give it, e.g. {{"method": "{self.method}", "pixel_size_um": 0.65}}'
            )
        return scale


class LogStdParameters(MethodParameters):
    """Of PyAMA's segmentation; its rounding is the parameter `logstd_arithmetic`."""

    method: Literal["logstd"] = "logstd"


class TextureParameters(ScaledParameters):
    """Of the segmentation by texture."""

    method: Literal["texture"] = "texture"
    detail_um: PositiveLength = Field(1.2, description="Coarsest detail that counts as texture (µm)")
    smoothing_um: PositiveLength = Field(0.9, description="Radius over which texture is averaged (µm)")
    threshold: Annotated[float, Field(ge=0, le=100)] = Field(
        2.5, description="Least distance of a cell's log texture from that of the background, in standard deviations"
    )
    edge: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="Where a cell ends: share of the way from the background's log texture to that of its inside"
    )
    closing_um: Length = Field(2.0, description="Gaps that are bridged: radius of the round closing (µm)")
    max_hole_um2: SurfaceArea = Field(150.0, description="Largest hole that is filled (µm²)")
    trim_um: Length = Field(1.3, description="Width that is taken off the outline, which averaging has moved out (µm)")
    opening_um: Length = Field(1.5, description="Thinnest process that stays: radius of the round opening (µm)")
    min_area_um2: SurfaceArea = Field(60.0, description="Smallest cell, and smallest part that is split off (µm²)")
    split: Annotated[float, Field(ge=0, le=1)] = Field(
        0.85, description="Cells are split where a neck is thinner than this share of the thinner side; 0: never"
    )


class RimParameters(ScaledParameters):
    """Of the segmentation by bright rims."""

    method: Literal["rims"] = "rims"
    diameter_um: PositiveLength = Field(5.0, description="Typical diameter of a cell (µm)")
    threshold: Annotated[float, Field(ge=0, le=100)] = Field(
        3.0, description="Least distance of a cell's log texture from that of the background, in standard deviations"
    )
    split: Annotated[float, Field(ge=0, le=1)] = Field(
        0.7, description="Cells are split where a neck is thinner than this share of the thinner side; 0: never"
    )


class CellposeParameters(ScaledParameters):
    """Of Cellpose."""

    method: Literal["cellpose"] = "cellpose"
    model: Annotated[str, Field(min_length=1, max_length=4096)] = Field(
        "cpsam_v2", description="Name of a model in Cellpose's own folder, or absolute path of a file of weights"
    )
    diameter_um: PositiveLength | None = Field(
        None, description="Typical diameter of a cell (µm); default: what the model was trained on"
    )
    flow_threshold: Annotated[float, Field(ge=0, le=10)] = Field(0.4, description="Largest error of the flows")
    cellprob_threshold: Annotated[float, Field(ge=-10, le=10)] = Field(0.0, description="Least logit of a cell")

    def check(self, pixel_size_um: float | None) -> None:
        """Make sure that the size of a pixel is known where it is needed."""
        if self.diameter_um is not None:
            self.scale(pixel_size_um)


class IouParameters(MethodParameters):
    """Of PyAMA's tracking; its threshold is the parameter `min_iou`."""

    method: Literal["iou"] = "iou"


class RegisteredParameters(MethodParameters):
    """Base of parameters of tracking methods that can follow the stage."""

    max_shift: Annotated[int, Field(ge=0, le=500)] = Field(
        0, description="Farthest that the stage moves from frame to frame (pixels); 0: it holds still"
    )


class OverlapParameters(RegisteredParameters):
    """Of the tracking by overlap."""

    method: Literal["overlap"] = "overlap"
    max_gap: Annotated[int, Field(ge=0, le=100)] = Field(
        3, description="Most frames for which a cell may not be found and is still the same afterwards"
    )
    reach: Annotated[float, Field(ge=0, le=10)] = Field(
        1.0, description="Farthest way of a cell that does not overlap with itself, in its radii"
    )
    divisions: bool = Field(True, description="Whether cells divide")
    max_shift: Annotated[int, Field(ge=0, le=500)] = Field(
        50, description="Farthest that the stage moves from frame to frame (pixels); 0: it holds still"
    )


class BtrackParameters(RegisteredParameters):
    """Of btrack."""

    method: Literal["btrack"] = "btrack"
    max_distance: Annotated[float, Field(ge=1, le=10_000)] = Field(
        50.0, description="Farthest way of a cell from frame to frame (pixels)"
    )
    max_gap: Annotated[int, Field(ge=0, le=100)] = Field(
        3, description="Most frames for which a cell may not be found and is still the same afterwards"
    )
    divisions: bool = Field(True, description="Whether cells divide")


Parameters = TypeVar("Parameters", bound=MethodParameters, covariant=True)


@dataclass(frozen=True)
class Method(Generic[Parameters]):
    """A method, and where it is done."""

    name: str
    description: str
    parameters: type[Parameters]
    """Model of its parameters, whose field `method` is its name; all but that have defaults."""
    function: str | Callable[..., Any]
    """What does it, or its address as `package.module:function`, which is loaded when it is first called."""
    extra: str | None = None
    """Optional extra of this project whose packages it needs."""
    with_parents: bool = False
    """Of tracking: whether it tells whose daughter a cell is; the table then has the column `parent`."""

    def load(self) -> Callable[..., Any]:
        """The function that does it.

        Of segmentation: `segment(image, parameters, pixel_size_um)`, from a phase image (H, W), the parameters and
        the size of a pixel that the recording tells (or None) to labels (H, W), any integer dtype, 0 for background;
        or to a `tasks.bitmask.Bitmask` whose 4-connected regions are the cells. Everything is to depend on this
        one image alone, since frames are computed in any order.

        Of tracking: `make(parameters)`, to a `tasks.linking.Linker`.

        PyAMA's own, whose parameters are not in their models, are called with those instead.
        """
        return resolve(self.function)


SEGMENTATION_METHODS: Registry[Method[MethodParameters]] = Registry(
    "segmentation method",
    (
        Method(
            "logstd",
            "PyAMA's: pixels whose surroundings vary more than the background does, cleaned by squares",
            LogStdParameters,
            "tasks.segmentation:segment",
        ),
        Method(
            "texture",
            "Spread cells of any shape: texture above the background's, smoothed in µm, split at necks",
            TextureParameters,
            "tasks.texture:segment_by_texture",
        ),
        Method(
            "rims",
            "Round cells in clusters, such as yeast: dark insides, kept apart by bright rims",
            RimParameters,
            "tasks.texture:segment_by_rims",
        ),
        Method(
            "cellpose",
            "Cellpose, a neural network (Stringer et al. 2021); needs its extra and a file of weights",
            CellposeParameters,
            "tasks.cellpose_adapter:segment_by_cellpose",
            extra="cellpose",
        ),
    ),
)

TRACKING_METHODS: Registry[Method[MethodParameters]] = Registry(
    "tracking method",
    (
        Method(
            "iou",
            "PyAMA's: overlap of boxes in consecutive frames",
            IouParameters,
            "tasks.linking:IouLinker",
        ),
        Method(
            "overlap",
            "Overlap and distance of cells; bridges gaps, follows divisions and the stage",
            OverlapParameters,
            "tasks.overlap_tracking:OverlapLinker",
            with_parents=True,
        ),
        Method(
            "btrack",
            "btrack, a Bayesian tracker (Ulicna et al. 2021) that sees the whole film; needs its extra",
            BtrackParameters,
            "tasks.btrack_adapter:BtrackLinker",
            extra="btrack",
            with_parents=True,
        ),
    ),
)
