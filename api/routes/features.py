"""What can be measured."""

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from api.responses import Answer
from tasks.features import FLUORESCENCE_FEATURES, PHASE_FEATURES, Feature

router = APIRouter(prefix="/processing", tags=["processing"])


class FeatureDetails(BaseModel):
    """One feature."""

    description: str
    unit: str


class AllDetails(BaseModel):
    """All features by name."""

    phase: dict[str, FeatureDetails]
    fluorescence: dict[str, FeatureDetails]


class FeaturesAnswer(Answer):
    """Names of the features, in the order of the columns of a table, and what they are."""

    phase_features: list[str]
    fluorescence_features: list[str]
    details: AllDetails


@router.get("/features")
async def get_features() -> FeaturesAnswer:
    """List the features that can be asked for in the phase channel and in fluorescence channels."""
    return FeaturesAnswer(
        phase_features=list(PHASE_FEATURES),
        fluorescence_features=list(FLUORESCENCE_FEATURES),
        details=AllDetails(
            phase=_described(PHASE_FEATURES.values()),
            fluorescence=_described(FLUORESCENCE_FEATURES.values()),
        ),
    )


def _described(features: Iterable[Feature[Any]]) -> dict[str, FeatureDetails]:
    return {feature.name: FeatureDetails(description=feature.description, unit=feature.unit) for feature in features}
