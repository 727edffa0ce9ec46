"""`GET /models`, `GET /strategies`: what a request may ask for."""

from __future__ import annotations

from flask import Blueprint, Response

from auth import Guard, Identity
from openapi.operation import Operation, describes
from refinery.refiner import Refiner
from refinery.strategies import DEFAULT
from schemas.service import Choice, Models, Strategies
from settings import Settings

from .answers import answer
from .parsing import refuse_query


def choices_blueprint(settings: Settings, guard: Guard, refiner: Refiner) -> Blueprint:
    """The routes, on these collaborators."""
    blueprint = Blueprint("choices", __name__)
    served_by = (
        "No model is configured: the built-in rules refine." if settings.offline else "Asked over the model API."
    )
    models = Models(
        items=[
            Choice(id=name, description=served_by, default=name == settings.openai_model)
            for name in settings.openai_models
        ]
    )
    strategies = Strategies(
        items=[
            Choice(id=strategy.id, description=strategy.description, default=strategy.id == DEFAULT)
            for strategy in refiner.strategies.values()
        ]
    )

    @blueprint.get("/models")
    @guard.token_required()
    @describes(Operation(id="listModels", summary="The models that may be asked for", answers={200: Models}))
    def list_models(caller: Identity) -> Response:
        refuse_query()
        return answer(models)

    @blueprint.get("/strategies")
    @guard.token_required()
    @describes(
        Operation(id="listStrategies", summary="The strategies that may be asked for", answers={200: Strategies})
    )
    def list_strategies(caller: Identity) -> Response:
        refuse_query()
        return answer(strategies)

    return blueprint
