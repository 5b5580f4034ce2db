"""Model files become predictors: what they compute, what they refuse."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdv import flavours_lightgbm
from rdv.errors import ConfigError, ModelUnloadable
from rdv.flavours import load_predictor
from rdv.flavours_catboost import MISSING, catboost_frame
from rdv.flavours_lightgbm import BoosterPredictor, LightGBMPredictor, library_path
from rdv.inputs import InputField, InputSpec
from rdv.manifest import ModelInfo

KINDS = {"probability": (), "labels": ("low", "mid", "high"), "number": ()}
COLOURS = ("red", "green", "blue")


def matrix_of(rows: int = 400, seed: int = 3) -> np.ndarray:
    """Three numbers and one category column, with missing values in each."""
    random = np.random.default_rng(seed)
    matrix = np.column_stack([random.normal(size=(rows, 3)), random.integers(0, 3, rows).astype(float)])
    matrix[random.random(matrix.shape) < 0.1] = np.nan
    return matrix


def target_of(kind: str, matrix: np.ndarray) -> np.ndarray:
    """Something that can be learned from the first column."""
    signal = np.nan_to_num(matrix[:, 0]) + np.nan_to_num(matrix[:, 3])
    if kind == "number":
        return signal
    return np.digitize(signal, [0.5] if kind == "probability" else [0.0, 1.5])


def spec() -> InputSpec:
    """The inputs of the matrix."""
    numbers = tuple(InputField(name) for name in ("age", "body mass", "visits"))
    return InputSpec((*numbers, InputField("colour", "category", COLOURS)))


def info(flavour: str, kind: str, **changes: object) -> ModelInfo:
    """The manifest's part on a model of this flavour and kind."""
    fields = {"file": "m", "flavour": flavour, "kind": kind, "inputs": spec(), "labels": KINDS[kind], "positive": "1"}
    return ModelInfo(**{**fields, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    """A function (flavour, kind) -> (file, what the library itself predicts for `matrix_of()`)."""
    folder, made = tmp_path_factory.mktemp("models"), {}

    def get(flavour: str, kind: str) -> tuple[Path, np.ndarray]:
        key = (flavour, kind)
        if key not in made:
            train = _train_lightgbm if flavour == "lightgbm" else _train_catboost
            made[key] = train(folder / f"{flavour}-{kind}", kind)
        return made[key]

    return get


def _train_lightgbm(file: Path, kind: str) -> tuple[Path, np.ndarray]:
    import lightgbm

    matrix = matrix_of()
    objective = {"probability": "binary", "labels": "multiclass", "number": "regression"}[kind]
    params = {"objective": objective, "num_leaves": 7, "num_threads": 1, "verbose": -1, "min_data_in_leaf": 5}
    params |= {"num_class": 3} if kind == "labels" else {}
    data = lightgbm.Dataset(
        matrix, target_of(kind, matrix), feature_name=list(spec().names()), categorical_feature=[3], free_raw_data=False
    )
    booster = lightgbm.train(params, data, 20)
    booster.save_model(str(file))
    return file, np.asarray(lightgbm.Booster(model_file=str(file)).predict(matrix)).reshape(len(matrix), -1)


def _train_catboost(file: Path, kind: str) -> tuple[Path, np.ndarray]:
    import catboost

    matrix = matrix_of()
    maker = catboost.CatBoostRegressor if kind == "number" else catboost.CatBoostClassifier
    model = maker(iterations=20, depth=3, verbose=0, thread_count=1, allow_writing_files=False)
    pool = catboost.Pool(
        catboost_frame(matrix, [3]), target_of(kind, matrix), cat_features=[3], feature_names=list(spec().names())
    )
    model.fit(pool)
    model.save_model(str(file), format="cbm")
    if kind == "number":
        return file, model.predict(pool).reshape(-1, 1)
    return file, model.predict_proba(pool)[:, 1:] if kind == "probability" else model.predict_proba(pool)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("flavour", ["lightgbm", "catboost"])
def test_scores_are_the_librarys_own(trained, flavour: str, kind: str) -> None:
    """A loaded model gives the training library's scores, one column a label and one otherwise."""
    file, wanted = trained(flavour, kind)
    found = load_predictor(info(flavour, kind), file).predict(matrix_of())
    assert found.shape == (400, max(1, len(KINDS[kind])))
    assert np.array_equal(found, wanted)
    if kind != "number":
        assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("flavour", ["lightgbm", "catboost"])
@settings(max_examples=25)
@given(st.lists(st.integers(0, 399), max_size=40))
def test_a_rows_score_does_not_depend_on_its_batch(trained, flavour: str, chosen: list[int]) -> None:
    """Any batch, of any size and order, gives each row the score that it has alone, to the last bit."""
    file, wanted = trained(flavour, "labels")
    found = load_predictor(info(flavour, "labels"), file).predict(matrix_of()[chosen])
    assert found.tobytes() == np.ascontiguousarray(wanted[chosen]).tobytes()


@pytest.mark.parametrize("kind", list(KINDS))
def test_public_booster_gives_the_same_scores(trained, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the wheel hides its library the public Booster serves, with bit-identical scores."""
    file, _ = trained("lightgbm", kind)
    quick = load_predictor(info("lightgbm", kind), file)
    monkeypatch.setattr(flavours_lightgbm, "library_path", lambda: None)
    public = load_predictor(info("lightgbm", kind), file)
    assert isinstance(quick, LightGBMPredictor)
    assert isinstance(public, BoosterPredictor)
    for rows in (0, 1, 5, 400):
        assert np.array_equal(quick.predict(matrix_of()[:rows]), public.predict(matrix_of()[:rows]))


def test_the_wheel_keeps_its_library_where_it_is_looked_for() -> None:
    """The private bit of LightGBM that the fast path rests on: the shared library's place in the wheel."""
    assert library_path() is not None


@pytest.mark.parametrize("flavour", ["lightgbm", "catboost"])
def test_features_must_be_the_manifests(trained, flavour: str) -> None:
    """A file with another number, order or name of features than its manifest is refused, naming the difference."""
    file, _ = trained(flavour, "probability")
    fields = spec().fields
    shorter, swapped = InputSpec(fields[1:]), InputSpec((fields[1], fields[0], *fields[2:]))
    with pytest.raises(ModelUnloadable, match="4 features.*3 inputs"):
        load_predictor(info(flavour, "probability", inputs=shorter), file)
    with pytest.raises(ModelUnloadable, match="feature 0 .*age.*body mass"):
        load_predictor(info(flavour, "probability", inputs=swapped), file)


@pytest.mark.parametrize("flavour", ["lightgbm", "catboost"])
@pytest.mark.parametrize(("made", "claimed"), [(a, b) for a in KINDS for b in KINDS if a != b])
def test_kind_must_be_the_manifests(trained, flavour: str, made: str, claimed: str) -> None:
    """A file that yields another kind of score than its manifest says is refused."""
    file, _ = trained(flavour, made)
    with pytest.raises(ModelUnloadable):
        load_predictor(info(flavour, claimed), file)


@pytest.mark.parametrize("flavour", ["lightgbm", "catboost"])
def test_wrong_width_of_matrix_is_refused(trained, flavour: str) -> None:
    """A matrix of another width than the model's is never scored, though CatBoost itself would."""
    file, _ = trained(flavour, "probability")
    predictor = load_predictor(info(flavour, "probability"), file)
    for width in (3, 5):
        with pytest.raises(ModelUnloadable, match="4 features"):
            predictor.predict(np.zeros((2, width)))


@pytest.mark.parametrize("flavour", ["lightgbm", "catboost"])
def test_text_that_is_no_model_is_refused(tmp_path: Path, flavour: str) -> None:
    """A file that is no model ends in one named error, not in the library's own."""
    file = tmp_path / "m"
    file.write_text("<html>not found</html>\n")
    with pytest.raises(ModelUnloadable):
        load_predictor(info(flavour, "number"), file)


def test_unknown_flavour_names_the_known_ones(tmp_path: Path) -> None:
    """The error for a flavour that nobody reads lists those that are."""
    with pytest.raises(ConfigError, match="catboost, lightgbm"):
        load_predictor(info("pickle", "number"), tmp_path / "m")


def test_large_and_small_frames_hold_the_same() -> None:
    """A data set and a batch reach CatBoost as the same texts and numbers, though by different containers."""
    matrix = matrix_of(5000)
    large, small = catboost_frame(matrix, [3]), catboost_frame(matrix[:50], [3])
    assert [str(text) for text in large[3][:50]] == list(small[:, 3])
    assert set(small[:, 3]) == {"0", "1", "2", MISSING}
    assert np.array_equal(large[[0, 1, 2]].to_numpy()[:50], small[:, :3].astype(float), equal_nan=True)


def test_catboost_learns_the_same_from_either_frame() -> None:
    """Training on the container for data sets gives the model that training on the one for batches gives."""
    import catboost

    matrix = matrix_of(4000)
    twice = np.vstack([matrix, matrix])
    target = target_of("number", twice)
    scores = []
    for data in (catboost_frame(twice, [3]), np.vstack([catboost_frame(matrix, [3])] * 2)):
        model = catboost.CatBoostRegressor(iterations=5, depth=3, verbose=0, thread_count=1, allow_writing_files=False)
        model.fit(catboost.Pool(data, target, cat_features=[3]))
        scores.append(model.predict(catboost.Pool(catboost_frame(matrix, [3]), cat_features=[3])))
    assert np.array_equal(scores[0], scores[1])
