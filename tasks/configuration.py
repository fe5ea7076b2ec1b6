"""The data models that all floors share: channels, parameters, and the request to process a recording.

Their JSON is the documented workflow request. Unknown fields are refused, and nothing is converted silently:
`"2"` is not a number here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    JsonValue,
    SerializationInfo,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from tasks.errors import InvalidParametersError
from tasks.features import FLUORESCENCE_FEATURES, PHASE_FEATURES
from tasks.fov_range import parse_fovs
from tasks.methods import (
    LARGEST_NUMBER,
    SEGMENTATION_METHODS,
    TRACKING_METHODS,
    IouParameters,
    LogStdParameters,
    Method,
    MethodParameters,
)
from tasks.problems import describe
from tasks.registry import Registry

Keep = Literal["all", "labels", "none"]
ImageFormat = Literal["npy", "ome-zarr"]
LogStdArithmetic = Literal["float32", "exact"]


def _known_features(known: Registry[Any]) -> AfterValidator:
    def check(names: list[str]) -> list[str]:
        order = list(known)
        for name in names:
            if name not in order:
                raise ValueError(f"unknown feature {name!r}; available: {', '.join(order)}")
        if len(set(names)) != len(names):
            raise ValueError("a feature is named twice")
        return sorted(names, key=order.index)

    return AfterValidator(check)


def _between(low: float, high: float | None = None) -> tuple[AfterValidator, FieldInfo]:
    """Limits of a number, with a message that names what is allowed; without a highest, it is what can be kept."""
    highest = LARGEST_NUMBER if high is None else high
    limits: dict[str, JsonValue] = {"minimum": low, "maximum": highest}

    def check(value: float) -> float:
        if low <= value <= highest:
            return value
        if high is not None:
            raise ValueError(f"allowed are {low} to {high}")
        raise ValueError(f"allowed are {low} or more" if value < low else f"allowed are at most {highest}")

    return AfterValidator(check), Field(json_schema_extra=limits)


def _absolute(path: str) -> str:
    if "\0" in path:
        raise ValueError("a path cannot contain a NUL character")
    if not Path(path).is_absolute():
        raise ValueError("must be an absolute path, e.g. /data/experiment.nd2")
    return path


def _fov_list(value: object) -> object:
    """Accept `"0-4, 7"`, a list, or a single number; give a sorted list without repetitions."""
    return value if value is None else parse_fovs(value)


AbsolutePath = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_absolute)]
"""An absolute path of the machine that computes."""

Index = Annotated[int, *_between(0)]
"""Number of a FOV, channel or plane, from 0."""

Count = Annotated[int, *_between(1)]
"""A whole number from 1."""

Parallelism = Annotated[int, *_between(1, 256)]
"""How many things happen at once."""

Share = Annotated[float, *_between(0, 1)]
"""A part of a whole, 0 to 1."""

PhaseFeatures = Annotated[list[str], _known_features(PHASE_FEATURES)]
"""Names of phase features, kept in registry order."""

FluorescenceFeatures = Annotated[list[str], _known_features(FLUORESCENCE_FEATURES)]
"""Names of fluorescence features, kept in registry order."""

FovList = Annotated[list[Index], BeforeValidator(_fov_list), Field(min_length=1)]
"""FOV numbers: a list, a single number, or text like `"0-4, 7"`."""


@dataclass(frozen=True)
class _OneOf:
    """Parameters of one of the methods of a registry, as it is when they are checked or described.

    The field `method` tells which; the name of a method by itself asks for its defaults.
    """

    methods: Mapping[str, Method[MethodParameters]]

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(_dump_method, info_arg=True),
        )

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        models = []
        for method in self.methods.values():
            # The validator gives the field `method` a default; a request has to name it.
            model = method.parameters.model_json_schema()
            models.append({**model, "description": method.description, "required": ["method"]})
        return {"anyOf": [{"type": "string", "enum": list(self.methods)}, *models]}

    def _validate(self, value: object) -> MethodParameters:
        if isinstance(value, MethodParameters):
            return value
        given = {"method": value} if isinstance(value, str) else value
        name = given.get("method") if isinstance(given, Mapping) else None
        if not isinstance(given, Mapping) or not isinstance(name, str) or name not in self.methods:
            raise ValueError(
                f"name a method: {', '.join(self.methods)}; e.g. {{'method': {next(iter(self.methods))!r}}}"
            )
        try:
            return self.methods[name].parameters.model_validate(dict(given))
        except ValidationError as error:
            raise ValueError(describe(error)) from error


def _dump_method(parameters: MethodParameters, info: SerializationInfo) -> dict[str, Any]:
    return parameters.model_dump(mode=info.mode, exclude_unset=info.exclude_unset)


SegmentationChoice = Annotated[MethodParameters, _OneOf(SEGMENTATION_METHODS)]
"""How cells are found: a method and its parameters."""

TrackingChoice = Annotated[MethodParameters, _OneOf(TRACKING_METHODS)]
"""How cells are followed: a method and its parameters."""


class Model(BaseModel):
    """Base of all request models: strict types, no unknown fields, immutable."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class RequestModel(Model):
    """Base of what is asked for as a whole."""

    @classmethod
    def parse(cls, **fields: Any) -> Self:  # noqa: ANN401 - raw JSON on its way to being validated
        """Validate a raw request.

        Raises
        ------
        InvalidParametersError
            One message that names each wrong field, its value, and what is allowed.
        """
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise InvalidParametersError(describe(error)) from error


class PhaseChannel(Model):
    """The channel in which cells are found."""

    channel: Index = Field(description="Index of the channel in the recording, from 0")
    features: PhaseFeatures = ["area"]


class FluorescenceChannel(Model):
    """A channel whose intensity is measured."""

    channel: Index = Field(description="Index of the channel in the recording, from 0")
    features: FluorescenceFeatures = ["intensity_total"]


class Channels(Model):
    """Which channel is which, and what is measured in each."""

    phase: PhaseChannel
    fluorescence: list[FluorescenceChannel] = []

    @model_validator(mode="after")
    def _each_channel_once(self) -> Self:
        used = self.numbers
        for number in used:
            if used.count(number) > 1:
                raise ValueError(f"channel {number} is used twice; each channel can have one role")
        return self

    @property
    def numbers(self) -> list[int]:
        """Phase channel first, then the fluorescence channels as given."""
        return [self.phase.channel, *(fluorescence.channel for fluorescence in self.fluorescence)]


class ScienceParameters(Model):
    """What changes the numbers or the files of a result."""

    background_weight: Share = Field(
        1.0, description="Share of the background that is subtracted from the fluorescence"
    )
    erosion_size: Annotated[int, *_between(0, 100)] = Field(
        0, description="Pixels by which cells are eroded before fluorescence is measured"
    )
    min_frames: Count = Field(
        30, description="Fewest frames a cell is seen in; at most the length of the film is asked for"
    )
    border_margin: Annotated[int, *_between(0)] = Field(
        50, description="Cells whose box comes closer than this to the image edge are left out (pixels)"
    )
    min_iou: Share = Field(0.1, description="Least overlap (IoU) of the boxes of one cell in consecutive frames")
    min_area: Count | None = Field(None, description="Smallest region that counts as a cell (pixels)")
    max_area: Count | None = Field(None, description="Largest region that counts as a cell (pixels)")
    logstd_arithmetic: LogStdArithmetic = Field(
        "float32",
        description="Rounding of the local variance: PyAMA's float32, or exact for bright flat images",
    )
    segmentation: SegmentationChoice = Field(
        LogStdParameters(), description="How cells are found: a method and its parameters"
    )
    tracking: TrackingChoice = Field(IouParameters(), description="How cells are followed: a method and its parameters")
    z_plane: Index | Literal["middle", "max"] = Field(
        "middle", description="Plane of a Z stack: an index, the middle one, or the maximum projection"
    )
    keep: Keep = Field("all", description="Image stacks that are written: all, only the label images, or none")
    image_format: ImageFormat = Field(
        "npy", description="How they are written: as NumPy's files, or as OME-Zarr images, which are compressed"
    )
    parquet: bool = Field(False, description="Write the table of traces as Parquet too")
    pictures: bool = Field(
        True, description="Write pictures of each FOV: frames with outlines, cells over time, plots of the traces"
    )

    @model_validator(mode="after")
    def _areas_in_order(self) -> Self:
        if self.min_area is not None and self.max_area is not None and self.min_area > self.max_area:
            raise ValueError(f"min_area {self.min_area} is above max_area {self.max_area}")
        return self

    def check_scale(self, pixel_size_um: float | None) -> None:
        """Make sure that the methods know as much of the scale as they need.

        Parameters
        ----------
        pixel_size_um
            Size of a pixel that the recording tells.

        Raises
        ------
        InvalidParametersError
            Naming the field.
        """
        for field, parameters in (("segmentation", self.segmentation), ("tracking", self.tracking)):
            try:
                parameters.check(pixel_size_um)
            except InvalidParametersError as error:
                raise InvalidParametersError(f"parameters.{field}.{error}") from error


class Parameters(ScienceParameters):
    """All parameters of a run: the science, and how it is executed."""

    fov_start: Index = Field(0, description="First FOV, from 0")
    fov_end: Index | None = Field(None, description="Last FOV, inclusive; default: the last of the file")
    fovs: FovList | None = Field(None, description='FOVs one by one, e.g. "0-3, 5"; in place of fov_start and fov_end')
    batch_size: Parallelism | None = Field(
        None, description="Most FOVs in flight; default: as many as there are workers"
    )
    n_workers: Parallelism | None = Field(None, description="Threads that compute; default: the usable processors")
    overwrite: bool = Field(
        False, description="Replace results of another input or of other parameters in the output folder"
    )

    @model_validator(mode="after")
    def _one_fov_range(self) -> Self:
        if self.fov_end is not None and self.fov_end < self.fov_start:
            raise ValueError(f"fov_end {self.fov_end} is before fov_start {self.fov_start}")
        if self.fovs is not None and {"fov_start", "fov_end"} & self.model_fields_set:
            raise ValueError("fovs cannot be combined with fov_start and fov_end")
        return self

    def select_fovs(self, n_fovs: int) -> list[int]:
        """FOVs of a recording that are asked for.

        Raises
        ------
        InvalidParametersError
            Where a FOV lies outside the recording.
        """
        allowed = f"the recording has {n_fovs} FOVs: 0 to {n_fovs - 1} are allowed"
        if self.fovs is not None:
            if self.fovs[-1] >= n_fovs:
                raise InvalidParametersError(f"parameters.fovs: FOV {self.fovs[-1]} does not exist; {allowed}")
            return list(self.fovs)
        last = n_fovs - 1 if self.fov_end is None else self.fov_end
        for name, value in (("fov_start", self.fov_start), ("fov_end", last)):
            if value >= n_fovs:
                raise InvalidParametersError(f"parameters.{name}: {value} is outside the file; {allowed}")
        return list(range(self.fov_start, last + 1))

    def science(self) -> ScienceParameters:
        """Only what changes the result."""
        return ScienceParameters(**self.model_dump(include=set(ScienceParameters.model_fields)))


class Configuration(Model):
    """Everything but the recording that determines the bytes of a FOV's directory."""

    channels: Channels
    parameters: ScienceParameters = ScienceParameters()
    plugins: dict[str, str] = {}
    """Versions of the plugins that have a part in it, by their names."""


class WorkflowRequest(RequestModel):
    """The documented request to process a recording."""

    microscopy_path: AbsolutePath
    output_dir: AbsolutePath
    channels: Channels
    parameters: Parameters = Parameters()

    def configuration(self) -> Configuration:
        """The part that determines the result."""
        return Configuration(
            channels=self.channels,
            parameters=self.parameters.science(),
            plugins=_plugins_of(self.microscopy_path, self.channels, self.parameters),
        )


def _plugins_of(recording: str, channels: Channels, parameters: ScienceParameters) -> dict[str, str]:
    """Versions of the plugins that are needed to read a recording, and to do what is asked for, by their names."""
    from tasks.acquisition import FORMATS, format_of  # here, because what suggests channels needs the models above

    known = format_of(Path(recording))
    fluorescence = [name for channel in channels.fluorescence for name in channel.features]
    return {
        **FORMATS.plugins_of([known.name] if known else []),
        **PHASE_FEATURES.plugins_of(channels.phase.features),
        **FLUORESCENCE_FEATURES.plugins_of(fluorescence),
        **SEGMENTATION_METHODS.plugins_of([parameters.segmentation.method]),
        **TRACKING_METHODS.plugins_of([parameters.tracking.method]),
    }


def check_channels(channels: Channels, channel_names: list[str]) -> None:
    """Make sure that a recording has the channels that are asked for.

    Raises
    ------
    InvalidParametersError
        Naming the field, the channel, and the channels there are.
    """
    there_are = ", ".join(f"{index} ({name})" for index, name in enumerate(channel_names))
    fields = ["phase", *(f"fluorescence.{i}" for i in range(len(channels.fluorescence)))]
    for field, number in zip(fields, channels.numbers, strict=True):
        if number >= len(channel_names):
            raise InvalidParametersError(
                f"channels.{field}.channel: the recording has no channel {number}; it has {there_are}"
            )
