"""The row schema of every topic that a project's requests travel on."""

from __future__ import annotations

from rdv.config import Project
from rdv.inputs import RowSchema
from rdv.schema import load_schema


def topic_schemas(project: Project) -> dict[str, RowSchema]:
    """Topic to row schema, over all modelling goals of a project; ConfigError when a schema cannot be used."""
    found = {}
    for goal, settings in project.config.goals.items():
        schema = load_schema(settings, project.folder)
        for topic, modelling in settings.modelling_goals(goal).items():
            found[topic] = schema.row_schema(modelling.enrich)
    return found
