"""The models that traces can be fitted with."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.responses import Answer
from tasks.fitting.catalog import FITTING_MODELS, FittingModel, Parameter

router = APIRouter(prefix="/analysis", tags=["analysis"])


class ModelParameter(BaseModel):
    """A number in the equation of a model."""

    name: str
    default: float = Field(description="Where a fit starts; the value itself, where the parameter is fixed")
    bounds: tuple[float, float] = Field(description="Lowest and highest value")
    unit: str
    meaning: str
    fixed: bool = Field(description="Whether it keeps its value instead of being fitted")


class ModelDescription(BaseModel):
    """A function of the time in hours."""

    name: str = Field(description="What to send as `model_type`")
    description: str
    equation: str
    parameters: list[ModelParameter]


class ModelsAnswer(Answer):
    """All models."""

    models: list[ModelDescription]


@router.get("/models")
async def get_models() -> ModelsAnswer:
    """List the models, their equations, and their parameters with defaults, bounds, units and meaning."""
    return ModelsAnswer(models=[_described(model) for model in FITTING_MODELS.values()])


def _described(model: FittingModel) -> ModelDescription:
    return ModelDescription(
        name=model.name,
        description=model.description,
        equation=model.equation,
        parameters=[_parameter(parameter) for parameter in model.parameters],
    )


def _parameter(parameter: Parameter) -> ModelParameter:
    return ModelParameter(
        name=parameter.name,
        default=parameter.default,
        bounds=parameter.bounds,
        unit=parameter.unit,
        meaning=parameter.meaning,
        fixed=parameter.fixed,
    )
