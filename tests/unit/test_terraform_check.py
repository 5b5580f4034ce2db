"""The check of terraform/: what it finds wrong by a provider's schema, with a provider of the test's own."""

from __future__ import annotations

import importlib
import io
import json
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "ci" / "terraform"
NAMES = ("hcl", "schemas", "modules", "rehearsal", "plugins", "check")
PAGE = "{@link https://registry.terraform.io/providers/hashicorp/shop/1.2.3/docs"
GOOD = """
resource "shop_cart" "this" {
  for_each  = { a = 1 }
  title     = each.key
  max_items = 3
  line {
    article_id = "x"
  }
}
"""


@pytest.fixture(scope="module")
def checks() -> Iterator[SimpleNamespace]:
    """The check's modules by name; they are programs, not a package."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    finally:
        sys.path.remove(str(FOLDER))
        for name in NAMES:
            sys.modules.pop(name, None)


@pytest.fixture
def known(checks: SimpleNamespace, tmp_path: Path) -> Any:
    """The schemas of a provider with one resource, read from a package like those that are published."""

    def argument(name: str, written: str, told: dict[str, Any], optional: bool = True) -> dict[str, Any]:
        docs = {"remarks": f"Docs at Terraform Registry: {PAGE}/resources/cart#{written} Cart#{written}}}"}
        return {"name": name, "docs": docs, "type": told, **({"optional": True} if optional else {})}

    def described(base: str, page: str, config: str) -> dict[str, Any]:
        parameters = [{}, {}, {"type": {"fqn": config}}]
        docs = {"summary": f"Represents a {PAGE}{page}}}."}
        return {"base": base, "docs": docs, "initializer": {"parameters": parameters}}

    lines = {"collection": {"kind": "array", "elementtype": {"fqn": "Line"}}}
    types = {
        "Shop": described("cdktf.TerraformProvider", " shop", "ShopConfig"),
        "ShopConfig": {"properties": [argument("address", "address", {"primitive": "string"})]},
        "Cart": described("cdktf.TerraformResource", "/resources/cart shop_cart", "CartConfig"),
        "CartConfig": {
            "properties": [
                argument("title", "title", {"primitive": "string"}, optional=False),
                argument("maxItems", "max_items", {"primitive": "number"}),
                argument("line", "line", {"union": {"types": [{"fqn": "cdktf.IResolvable"}, lines]}}),
            ]
        },
        "Line": {"properties": [argument("articleId", "article_id", {"primitive": "string"}, optional=False)]},
    }
    inner, package = io.BytesIO(), tmp_path / "shop.whl"
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        body = json.dumps({"types": types}).encode()
        member = tarfile.TarInfo("package/.jsii")
        member.size = len(body)
        archive.addfile(member, io.BytesIO(body))
    with zipfile.ZipFile(package, "w") as wheel:
        wheel.writestr("shop/_jsii/provider-shop@1.jsii.tgz", inner.getvalue())
    return checks.schemas.read([package])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("max_items", "max_item", "there is no argument max_item"),
        ("title     = each.key", "", "title is missing"),
        ("shop_cart", "shop_car", "there is no such resource"),
        ("max_items = 3", 'max_items = "many"', "max_items is a number, not a string"),
        ("article_id", "article", "shop_cart.this.line: there is no argument article"),
        ('article_id = "x"', "", "shop_cart.this.line: article_id is missing"),
        ("shop_cart", "consul_key_prefix", "is not for Terraform's state"),
    ],
)
def test_a_wrong_argument_is_found(
    checks: SimpleNamespace, known: Any, tmp_path: Path, old: str, new: str, said: str
) -> None:
    """An unknown resource, argument or block's argument, a missing one and one of another kind are each told."""
    file = tmp_path / "terraform" / "main.tf"
    file.parent.mkdir()
    file.write_text(GOOD)
    assert list(checks.modules.problems(file.parent, known)) == []
    file.write_text(GOOD.replace(old, new))
    assert said in "\n".join(checks.modules.problems(file.parent, known))


def test_a_call_fits_its_module(checks: SimpleNamespace, known: Any, tmp_path: Path) -> None:
    """A module gets every variable that it must have and none that it does not know; a version is the checked one."""
    root, child = tmp_path / "terraform", tmp_path / "terraform" / "child"
    child.mkdir(parents=True)
    (child / "main.tf").write_text('variable "a" {\n  description = "x"\n}\nvariable "b" {\n  default = 1\n}\n')
    (root / "main.tf").write_text(
        'module "m" {\n  source = "./child"\n  c = 1\n}\nmodule "n" {\n  source = "./none"\n}\n'
        'terraform {\n  required_providers {\n    shop = {\n      source = "hashicorp/shop"\n      version = "1.2.4"\n'
        "    }\n  }\n}\n"
    )
    said = "\n".join(checks.modules.problems(root, known))
    for one in (
        "./child has no variable c", "module m: a is missing", "there is no ./none", "variable b has no description",
        "provider shop is 1.2.4, the schema that was checked is of 1.2.3",
    ):  # fmt: skip
        assert one in said
    assert len(said.splitlines()) == 5


def test_a_dynamic_block_is_checked_and_rehearsed(checks: SimpleNamespace, known: Any, tmp_path: Path) -> None:
    """A block made by a loop is held to the schema like one that is written out, and becomes a list of values."""
    file = tmp_path / "terraform" / "main.tf"
    file.parent.mkdir()
    dynamic = 'dynamic "line" {\n    for_each = ["p"]\n    content {\n      article_id = line.value\n    }\n  }'
    file.write_text(GOOD.replace('line {\n    article_id = "x"\n  }', dynamic))
    assert list(checks.modules.problems(file.parent, known)) == []
    held = checks.rehearsal.held(file)["resource"]["terraform_data"]["shop_cart__this"]
    assert held["input"]["line"] == '${[for line in [for v in ["p"] : { value = v }] : { article_id = line.value }]}'
    file.write_text(file.read_text().replace("article_id", "article"))
    said = "\n".join(checks.modules.problems(file.parent, known))
    assert "there is no argument article" in said
    assert "article_id is missing" in said


def test_providers_are_found_where_they_are_kept(
    checks: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider's folder is looked for where a person says; what is nowhere is None."""
    (tmp_path / "registry.terraform.io" / "hashicorp" / "shop" / "1.2.3").mkdir(parents=True)
    monkeypatch.setenv("RDV_TERRAFORM_PLUGINS", str(tmp_path))
    assert checks.plugins.find("hashicorp/shop") == tmp_path
    assert checks.plugins.find("hashicorp/nobody-has-this") is None


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("1", 1)])
def test_what_is_not_here_is_told(
    checks: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, ci: str, code: int
) -> None:
    """Without terraform and without the schemas each check says that it was not run; in CI that is a failure."""

    def nothing(folder: Path) -> list[Path]:
        raise checks.schemas.NotHere("no network")

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("RDV_CI", ci)
    monkeypatch.setattr(checks.schemas, "fetch", nothing)
    assert checks.check.main() == code
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("terraform: NOT RUN: ") for line in lines)
    assert "terraform: NOT RUN: arguments (the providers' schemas: no network)" in lines


def test_hcl_is_read(checks: SimpleNamespace, tmp_path: Path) -> None:
    """Texts, numbers, expressions over lines, comments and blocks are told apart; what is not HCL is refused."""
    file = tmp_path / "a.tf"
    file.write_text(
        '# one\nkind "a" "b" {\n  text = "say \\"${f("x")}\\" $${y} #" // not text\n'
        '  many = [ # of them\n    1, "}",\n  ]\n'
        "  yes = true\n  n = -1.5\n  cond = a == \"\" ? [] : [a]\n  in {}\n  in { one = 1 }\n}\n/* end */"
    )
    assert checks.hcl.load(file) == {
        "kind": [
            {
                "a": {
                    "b": {
                        "text": 'say "${f("x")}" $${y} #', "many": '${[ # of them\n    1, "}",\n  ]}', "yes": True,
                        "n": -1.5, "cond": '${a == "" ? [] : [a]}', "in": [{}, {"one": 1}],
                    }
                }
            }
        ]
    }  # fmt: skip
    for wrong in ("a = <<EOT\nx\nEOT\n", 'a = "x\n"', "a b\n", "= 1\n"):
        file.write_text(wrong)
        with pytest.raises(ValueError):
            checks.hcl.load(file)
