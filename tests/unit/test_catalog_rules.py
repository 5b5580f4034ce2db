"""Names of services, and looks at a catalog, as values."""

import random

from hypothesis import given
from hypothesis import strategies as st

from rdv.backends.catalog_rules import check_service, service_name
from rdv.backends.ports_services import Found, Instance

plain = st.from_regex(r"[a-z0-9]{1,12}(-[a-z0-9]{1,8})?", fullmatch=True)


@given(plain, plain)
def test_plain_names_stay_as_they_are(env: str, project: str) -> None:
    """Texts that a name can hold are joined and nothing else."""
    assert service_name(env, project, "gateway") == f"{env}-{project}-gateway"


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_texts_make_a_name(env: str, project: str) -> None:
    """Whatever the texts are, the name is one that Consul and Nomad take, and always the same."""
    assert check_service(service_name(env, project, "gateway")) == service_name(env, project, "gateway")


def test_what_a_name_cannot_hold_still_counts() -> None:
    """Projects whose names differ only in what is not taken, or far behind, have different names."""
    projects = ["a b", "a_b", "a-b", "A-B", "x" * 80, "x" * 81]
    names = {service_name("dev", project, "gateway") for project in projects}
    assert len(names) == len(projects)
    assert all(name.startswith("dev-") for name in names)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 3)), unique_by=lambda one: one[0]), st.randoms())
def test_a_look_is_the_same_in_any_order(told: list[tuple[str, int]], rng: random.Random) -> None:
    """A look does not depend on the order in which instances, or what they tell, are listed."""
    meta = {"version": "v1", "ops": "h:1"}
    instances = [Instance(id=name, host="h", port=port, meta=meta) for name, port in told]
    again = [Instance(id=name, host="h", port=port, meta=dict(reversed(meta.items()))) for name, port in told]
    rng.shuffle(again)
    assert Found.of(instances) == Found.of(again)
    assert [one.id for one in Found.of(again).instances] == sorted(name for name, _ in told)
