"""Probe rows carry a model's inputs through a manifest and back."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.errors import InputError
from rdv.inputs import InputField, InputSpec, RowSchema, compile_encoder, rows_from_records
from rdv.manifest import ModelInfo
from rdv.probe_rows import from_probe_rows, to_probe_rows

SCHEMA = RowSchema(("age", "unused", "site"), ("note", "plan"))
SPEC = InputSpec(
    (
        InputField("plan", "category", ("basic", "gold")),
        InputField("age", fill=-1.0),
        InputField("site", "category", ("1", "2.5"), unknown="other"),
    )
)
RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "age": st.none() | st.floats(allow_nan=False, allow_infinity=False),
            "site": st.none() | st.sampled_from([1.0, 2.5, 7.0]),
            "plan": st.none() | st.sampled_from(["basic", "gold", "new"]),
            "unused": st.just(3.0),
        }
    ),
    max_size=20,
)


@given(RECORDS)
def test_probe_rows_encode_as_the_rows_they_came_from(records: list[dict[str, object]]) -> None:
    """Through the manifest and back, a probe row gives the model the matrix that the row itself gives."""
    rows = rows_from_records(SCHEMA, records)
    info = ModelInfo("m", "lightgbm", "number", SPEC, probe_rows=to_probe_rows(SPEC, SCHEMA, rows))
    info = msgspec.json.decode(msgspec.json.encode(info), type=ModelInfo)
    schema, again = from_probe_rows(SPEC, info.probe_rows)
    wanted = compile_encoder(SPEC, SCHEMA)(rows)[:16]
    found = compile_encoder(SPEC, schema)(again)
    assert found.tobytes() == wanted.tobytes() or all(
        a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(found.ravel(), wanted.ravel(), strict=True)
    )


def test_rows_that_do_not_fit_are_refused() -> None:
    """A schema without an input, or a row of another width, ends in a named error."""
    with pytest.raises(InputError, match="plan"):
        to_probe_rows(SPEC, RowSchema(("age",)), rows_from_records(RowSchema(("age",)), [{"age": 1.0}]))
    with pytest.raises(InputError, match="3 inputs"):
        from_probe_rows(SPEC, ((1.0, 2.0),))
