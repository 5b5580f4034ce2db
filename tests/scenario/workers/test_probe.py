"""A model file is loaded in a limited child first, and whatever that child dies of stays there."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest

from rdv.errors import ModelUnloadable
from rdv.flavours import load_predictor
from rdv.flavours_catboost import catboost_frame
from rdv.inputs import InputField, InputSpec
from rdv.manifest import ModelInfo
from rdv.serving.processes.limited import Limits, run_limited
from rdv.serving.worker.probe import confirm, differences, probe, probe_matrix

FAST = Limits(wall_s=6.0, cpu_s=2.0, memory_bytes=1 << 30)
DEADLINE_S = 15.0
SPEC = InputSpec((InputField("age"), InputField("visits"), InputField("plan", "category", ("basic", "gold"))))
PROBE_ROWS = tuple((float(age), age % 7.0, ("basic", "gold", None)[age % 3]) for age in range(16))


def matrix_of(rows: int = 300) -> np.ndarray:
    """Two numbers and one category column, as the probe rows have them."""
    random_numbers = np.random.default_rng(5)
    return np.column_stack(
        [random_numbers.uniform(0, 16, rows), random_numbers.uniform(0, 7, rows), random_numbers.integers(0, 2, rows)]
    )


def trained(flavour: str, file: Path) -> ModelInfo:
    """Train a small model into `file` and describe it as its manifest would."""
    matrix = matrix_of()
    target = (matrix[:, 0] + matrix[:, 1] * matrix[:, 2] > 9).astype(int)
    if flavour == "lightgbm":
        import lightgbm

        params = {"objective": "binary", "num_leaves": 7, "num_threads": 1, "verbose": -1}
        data = lightgbm.Dataset(matrix, target, feature_name=list(SPEC.names()), categorical_feature=[2])
        lightgbm.train(params, data, 15).save_model(str(file))
    else:
        import catboost

        pool = catboost.Pool(catboost_frame(matrix, [2]), target, cat_features=[2], feature_names=list(SPEC.names()))
        model = catboost.CatBoostClassifier(iterations=15, depth=3, verbose=0, allow_writing_files=False)
        model.fit(pool).save_model(str(file), format="cbm")
    info = ModelInfo(file.name, flavour, "probability", SPEC, positive="1", probe_rows=PROBE_ROWS)
    scores = load_predictor(info, file).predict(probe_matrix(info))
    return msgspec.structs.replace(info, probe_scores=tuple(tuple(row) for row in scores.tolist()))


@pytest.fixture(scope="module", params=["lightgbm", "catboost"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelInfo, Path]:
    """A trained model and its file."""
    file = tmp_path_factory.mktemp("model") / "model"
    return trained(request.param, file), file


def mutate(content: bytes, random_numbers: random.Random) -> bytes:
    """The content with a byte changed, a digit changed, or its end cut off."""
    place = random_numbers.randrange(len(content))
    way = random_numbers.randrange(3)
    if way == 0:
        return content[:place]
    mutated = bytearray(content)
    if way == 1:
        digits = [at for at in range(place, min(place + 200, len(content))) if chr(content[at]).isdigit()]
        mutated[digits[0] if digits else place] = random_numbers.choice(b"0123456789-")
    else:
        mutated[place] = random_numbers.randrange(256)
    return bytes(mutated)


def test_a_sound_file_passes(model: tuple[ModelInfo, Path]) -> None:
    """The child reproduces the manifest's scores, and so does the process that loads the file afterwards."""
    info, file = model
    probe(info, file)
    confirm(info, load_predictor(info, file))


@pytest.mark.parametrize("part", range(4))
def test_mutated_files_never_hurt_who_asks(
    model: tuple[ModelInfo, Path], tmp_path: Path, in_ci: bool, part: int
) -> None:
    """Mutations whose manifest agrees with them: nothing dies or hangs here, and what passes has the right scores."""
    info, file = model
    content, random_numbers = file.read_bytes(), random.Random(part)
    count = 50 if in_ci else 12 if info.flavour == "lightgbm" else 4

    def attempt(number: int) -> str:
        mutated = tmp_path / f"mutated-{number}"
        mutated.write_bytes(mutations[number])
        began = time.monotonic()
        try:
            probe(info, mutated, FAST)
        except ModelUnloadable as error:
            return str(error)
        finally:
            assert time.monotonic() - began < DEADLINE_S
        confirm(info, load_predictor(info, mutated))
        return ""

    mutations = [mutate(content, random_numbers) for _ in range(count)]
    with ThreadPoolExecutor(2) as pool:
        reasons = list(pool.map(attempt, range(count)))
    assert all("refused by its probe" in reason for reason in reasons if reason)


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelInfo, str]:
    """A LightGBM model's info and text, for edits that only a text format allows."""
    file = tmp_path_factory.mktemp("text") / "model"
    return trained("lightgbm", file), file.read_text()


def replaced(text: str, key: str, change: str) -> str:
    """The first tree's `key=...` of a LightGBM file with another value; without tree sizes it need not be as long."""
    lines = [line for line in text.split("\n") if not line.startswith("tree_sizes=")]
    at = next(at for at, line in enumerate(lines) if line.startswith(f"{key}="))
    count = len(lines[at].split("=")[1].split(" "))
    return "\n".join([*lines[:at], f"{key}=" + " ".join([change] * count), *lines[at + 1 :]])


def test_a_file_that_hangs_its_loader_is_refused_in_time(text_model: tuple[ModelInfo, str], tmp_path: Path) -> None:
    """A tree whose nodes lead back to themselves would score for ever: the child is ended within its limit."""
    info, text = text_model
    bad = tmp_path / "m"
    bad.write_text(replaced(replaced(text, "left_child", "0"), "right_child", "0"))
    began = time.monotonic()
    with pytest.raises(ModelUnloadable, match="SIGXCPU|longer than"):
        probe(info, bad, Limits(wall_s=6.0, cpu_s=1.0))
    assert time.monotonic() - began < DEADLINE_S


def test_a_file_that_kills_its_loader_is_refused(text_model: tuple[ModelInfo, str], tmp_path: Path) -> None:
    """A tree that points far outside its nodes kills who scores it: that is the child, and the signal is told."""
    info, text = text_model
    bad = tmp_path / "m"
    bad.write_text(replaced(replaced(text, "left_child", "99999999"), "right_child", "99999999"))
    with pytest.raises(ModelUnloadable, match="killed by SIG"):
        probe(info, bad, FAST)


def test_other_scores_than_the_manifests_are_refused(text_model: tuple[ModelInfo, str], tmp_path: Path) -> None:
    """A file that loads well but computes something else is refused, naming row and scores."""
    info, text = text_model
    bad = tmp_path / "m"
    bad.write_text(replaced(text, "leaf_value", "0.25"))
    with pytest.raises(ModelUnloadable, match="row 0 is scored .*the manifest says"):
        probe(info, bad, FAST)


def test_a_child_that_grows_is_ended() -> None:
    """Memory is watched from outside: a child that takes too much is killed and the limit is named."""
    program = "import time; hog = bytearray(300 << 20); time.sleep(60)"
    ended = run_limited(["python3", "-c", program], b"", Limits(wall_s=20, memory_bytes=100 << 20))
    assert ended.code == -9
    assert "100 MiB" in ended.over


def test_a_child_that_sleeps_is_ended() -> None:
    """The wall clock is watched as well: waiting costs no processor time, but ends all the same."""
    ended = run_limited(["python3", "-c", "import time; time.sleep(60)"], b"", Limits(wall_s=0.3))
    assert ended.over
    assert ended.wall_s < DEADLINE_S


def test_a_manifest_without_probe_rows_still_gets_its_file_tried(model: tuple[ModelInfo, Path]) -> None:
    """With nothing to compare, loading, shape and range are tried on a row of zeros."""
    info, file = model
    probe(msgspec.structs.replace(info, probe_rows=(), probe_scores=()), file)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([[0.5]], ""),
        ([[0.5 + 1e-10]], ""),
        ([[0.6]], "manifest says 0.5"),
        ([[None]], "not 1 usable"),
        ([[float("nan")]], "not 1 usable"),
        ([[1.5]], "probability 1.5"),
        ([[0.5, 0.5]], "not 1 usable"),
        ([[0.5], [0.5]], "2 rows"),
        ([], "0 rows"),
    ],
)
def test_differences_are_named(scores: list[list[float | None]], said: str) -> None:
    """Each way of not being the manifest's scores has its own words; agreement has none."""
    info = ModelInfo("m", "lightgbm", "probability", SPEC, probe_scores=((0.5,),))
    found = differences(info, scores)
    assert said in found
    assert bool(found) == bool(said)
