"""`rdv check`: what the hooks of a service project find, and what they leave alone."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rdv.cli.check.hcl import hcl_problem
from rdv.cli.check.secrets import secrets_in
from rdv.cli.main import main
from rdv.errors import Exit

JOB = """\
# a comment with { and "
job "shop" {
  /* another } */
  group "g" {
    task "t" {
      config { command = "a \\" b", args = ["${meta.x["}"]}", "%{ if true }}%{ endif }"] }
      template {
        data = <<EOH
{{ key "a" }} } "
        EOH
      }
    }
  }
}
"""


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A new project."""
    assert main(["init", str(tmp_path / "shop")]) == Exit.OK
    return tmp_path / "shop"


def problem(folder: Path, what: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a check finds first; it must end with 1."""
    capsys.readouterr()
    assert main(["check", what, "--project", str(folder), "-o", "json"]) == Exit.FAILED
    return str(json.loads(capsys.readouterr().out)[0]["problem"])


def test_a_contract_that_the_schemas_break_is_found(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A contract in the folder that a schema does not bear, and one of another goal, are told by consumer."""
    request = {"method": "POST", "path": "/v1/goals/churn/score", "body": {"customer": "c1"}}
    told = {
        "consumer": {"name": "web"},
        "provider": {"name": "shop"},
        "interactions": [{"description": "a score", "request": request, "response": {"status": 200}}],
    }
    file = made / "contracts/consumers/web.json"
    file.parent.mkdir(parents=True)
    assert main(["check", "contracts", "--project", str(made)]) == Exit.OK
    file.write_text(json.dumps(told))
    assert "consumer 'web' of goal 'churn': field plan" in problem(made, "contracts", capsys)
    request["path"] = "/v1/goals/fraud/score"
    file.write_text(json.dumps(told))
    assert "consumer 'web' of goal 'fraud'" in problem(made, "contracts", capsys)
    file.write_text("{}")
    assert "is no pact file" in problem(made, "contracts", capsys)


def test_a_job_file_is_read_as_hcl() -> None:
    """Brackets within strings, comments and heredocs do not count."""
    assert hcl_problem(JOB) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (JOB[:-2], "line 2: }"),
        (JOB + "}\n", "line 15: } closes nothing"),
        ('job "a" {\n  x = "never ends\n}\n', "line 2"),
        ('job "a" {\n  x = <<EOH\n}\n', "line 2"),
        ('group "a" {}\n', "there is no job"),
        ('job "a" { x = [1) }\n', "line 1: )"),
    ],
)
def test_a_broken_job_file_is_told_by_its_line(text: str, said: str) -> None:
    """What does not end, closes nothing or holds no job is found."""
    assert said in hcl_problem(text)


KEYS = {
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "an AWS access key": "AKIA" + "ABCDEFGHIJKLMNOP",
    "a token of Vault": "hvs." + "CAESIJlWh8ybPqmzq2EA5WvR",
    "a token of GitLab": "glpat-" + "x9yT2Lm4Qp7Rs1Vw8Zab",
    "a password in an address": "https://me:" + "hunter22@example.org",
    "a password or key": 'db_password = "' + 'Tr0ub4dor&3"',
}


@pytest.mark.parametrize("what", sorted(KEYS))
def test_keys_and_passwords_are_found(what: str) -> None:
    """What looks like a key or a password is found with its line."""
    assert list(secrets_in(f"first\n{KEYS[what]}\n")) == [(2, what)]


@pytest.mark.parametrize(
    "line",
    [
        'secrets = "vault:secret/rdv/dev?address=http://127.0.0.1:8200&token_file=/run/vault.token"',
        'password = "$DB_PASSWORD"',
        'token = "{{ token }}"',
        'api_key = "API_KEY"',
        "http://127.0.0.1:8080/v1/goals/churn/score",
        'subject = "customer"',
    ],
)
def test_places_and_variables_are_no_secrets(line: str) -> None:
    """Where a secret is kept, and the name of a variable, may be committed."""
    assert list(secrets_in(line)) == []


def test_a_committed_key_fails_the_check(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A key in a file that git would add is named with file and line; in an ignored one it is nobody's business."""
    (made / "pipeline.py").write_text(f"KEY = '{KEYS['an AWS access key']}'\n")
    assert problem(made, "secrets", capsys).startswith("pipeline.py:1 holds an AWS access key")


def test_a_schema_change_without_its_documentation_is_found(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """When the schema has changed, the check asks for `rdv api`, and is content after it."""
    schema = made / "schemas/churn.json"
    schema.write_text(schema.read_text().replace('"pro"', '"pro", "gold"'))
    assert "rdv api" in problem(made, "api", capsys)
    assert main(["api", "--check", "--project", str(made)]) == Exit.CHANGES
    assert main(["api", "--project", str(made)]) == Exit.OK
    assert main(["check", "api", "--project", str(made)]) == Exit.OK
    assert "gold" in (made / "docs/churn.md").read_text()


def test_a_schema_of_no_goal_is_found(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A schema that rdv.toml does not name is told: nobody would notice what is in it."""
    (made / "schemas/old.json").write_text("{}")
    assert "schemas/old.json is the schema of no goal" in problem(made, "schemas", capsys)


def test_names_that_change_by_themselves_are_found(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A hyperparameter that is another one in every process is found, by its model."""
    (made / "pipeline.py").write_text(
        "import os\nfrom rdv.pipelines.task import TrainTask\n"
        "class Monotone(TrainTask):\n    defaults = {'rounds': int.from_bytes(os.urandom(4), 'big')}\n"
    )
    assert problem(made, "names", capsys).startswith("churn/monotone: the artifact train/")


def test_results_are_written_as_junit(made: Path, tmp_path: Path) -> None:
    """--junit writes a case a check, and a failure where there is a problem."""
    (made / "schemas/old.json").write_text("{}")
    assert main(["check", "settings", "schemas", "--junit", str(tmp_path / "x/lint.xml"), "--project", str(made)]) == 1
    suite = ElementTree.parse(tmp_path / "x/lint.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None] == ["schemas"]
