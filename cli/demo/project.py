"""The demo's service project: one goal, four roles for its models, and how each is trained."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from rdv.cli import scaffold
from rdv.cli.demo import data as demo_data
from rdv.errors import UsageError

GOAL = "visit"
CHAMPION, CHALLENGER, CANARY = f"{GOAL}/lightgbm", f"{GOAL}/catboost", f"{GOAL}/canary"
BUDGET_MS = 80
MADE_BY_US = "# made by `rdv demo`, which may delete this folder\n"

FIRST_GRIDS: Mapping[str, tuple[str, ...]] = {
    CANARY: (),
    CHAMPION: ("num_leaves=7,15", "learning_rate=0.05,0.1"),
    CHALLENGER: ("depth=4,6", "learning_rate=0.1,0.2"),
}
BETTER_GRID = ("num_leaves=31,63", "learning_rate=0.05", "num_iterations=300")

SETTINGS = """\
# Does this person see a doctor within the year? The RAND health insurance experiment, 20,190 person-years.
project = "demo"

[goals.visit]
schema = "schemas/visit.json"
budget_ms = 80
default = 0.69          # the share of all cases that saw a doctor: what to say when no model made it
subject = "case"
canary_model = "visit/canary"
# The champion has 30 ms for itself; from then on the challenger may answer too; at 80 ms the default does.
tiers = [
  {{ until_ms = 30, models = ["visit/lightgbm"] }},
  {{ until_ms = 80, models = ["visit/lightgbm", "visit/catboost"] }},
]
# What a plan leaves to the person to pay is looked up once, before any model sees the request.
enrich = [{{ table = "data/plans.csv", key = "plan", columns = {{ coinsurance = "number" }} }}]

# The champion: the model that the policy prefers.
[models."visit/lightgbm"]
goal = "visit"
flavour = "lightgbm"
{shared}
[models."visit/lightgbm".params]
num_iterations = 100
num_leaves = 15
learning_rate = 0.1

# The challenger: it scores every request and answers when the champion does not.
[models."visit/catboost"]
goal = "visit"
flavour = "catboost"
{shared}
[models."visit/catboost".params]
iterations = 100
depth = 6
learning_rate = 0.1

# The canary model: small, fixed, understood. It scores everything and is never chosen.
[models."visit/canary"]
goal = "visit"
flavour = "lightgbm"
{shared}
[models."visit/canary".params]
num_iterations = 20
num_leaves = 4
learning_rate = 0.1

[serve]
port = 0                # any free one: `rdv status` tells which
"""

SHARED = """\
data = "data/visit.csv"
label = "doctor"
positive = "1"
exclude = ["case"]
metric = "auc"
floor = 0.6
"""


def build(folder: Path, data: demo_data.Data) -> None:
    """Scaffold the demo's project in a folder, as `rdv init` would; an earlier demo's is replaced, anything else kept.

    UsageError when the folder holds what is not ours.
    """
    clear(folder)
    models = (CHAMPION, CHALLENGER, CANARY)
    settings = MADE_BY_US + SETTINGS.format(shared=SHARED)
    files = scaffold.project_files("demo", GOAL, models, settings, demo_data.FIELDS)
    files |= {"data/visit.csv": demo_data.as_csv(data.training), "data/plans.csv": demo_data.plans_csv(data.plans)}
    scaffold.write(folder, files)


def clear(folder: Path) -> None:
    """Remove an earlier demo's folder; absent and empty are fine."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    settings = folder / "rdv.toml"
    if not settings.is_file() or not settings.read_text().startswith(MADE_BY_US):
        raise UsageError(f"{folder} exists and was not made by `rdv demo`", "name another folder: `rdv demo FOLDER`")
    if still_running(folder):
        raise UsageError(f"an earlier demo still serves in {folder}", "stop it first (Ctrl-C where it runs)")
    shutil.rmtree(folder)


def still_running(folder: Path) -> bool:
    """Whether a gateway of the project in a folder answers."""
    from rdv.errors import RdvError
    from rdv.serving.status import read_status
    from rdv.settings import load_project

    try:
        read_status(load_project(folder))
    except RdvError:
        return False
    return True
