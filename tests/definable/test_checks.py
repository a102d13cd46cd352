"""`make check` finds what it is there for: a planted violation of each rule."""

import subprocess
import sys

import pytest
from django.conf import settings

from tests.requirements import in_order, proofs

PLANTED = {
    "H021": '<p style="color: red">x</p>',
    "D001": "<style>p { color: red }</style>",
    "D002": "<script>alert(1)</script>",
    "D003": '<div hx-on:click="x()">x</div>',
    "D004": "{{ answer|safe }}",
}
INNOCENT = '<script type="module" src="x.js"></script><p data-style="x" class="on">{{ answer }}</p>\n'


def lint(tmp_path, template: str) -> str:
    page = tmp_path / "page.html"
    page.write_text(template)
    rules = ["--configuration", "pyproject.toml", "--rules", ".djlint_rules.yaml"]
    command = [sys.executable, "-m", "djlint", "--lint", "--quiet", *rules, str(page)]
    return subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True).stdout


@pytest.mark.parametrize("rule", PLANTED)
def test_the_template_lint_finds(tmp_path, rule):
    assert f"{rule} 1:" in lint(tmp_path, PLANTED[rule] + "\n")


def test_the_template_lint_finds_escaping_turned_off(tmp_path):
    assert "D004 1:" in lint(tmp_path, "{% autoescape off %}{% endautoescape %}\n")


def test_the_template_lint_finds_an_event_handler(tmp_path):
    assert "D003 1:" in lint(tmp_path, '<button onclick="x()">x</button>\n')


def test_the_template_lint_leaves_good_templates_alone(tmp_path):
    assert lint(tmp_path, INNOCENT).strip() == ""


@pytest.mark.parametrize("module", ["actions", "queries", "client", "registry", "calls"])
def test_the_type_check_finds_a_signature_without_types(tmp_path, module):
    package = tmp_path / "planted"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / f"{module}.py").write_text("def revoke(*, credential, at):\n    return credential\n")
    configuration = str(settings.BASE_DIR / "pyproject.toml")

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--config-file",
            configuration,
            "--cache-dir",
            str(tmp_path / "cache"),
            "planted",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert "no-untyped-def" in done.stdout


def test_requirements_are_listed_with_the_tests_that_prove_them():
    found = proofs()

    assert "tests/definable/test_supply_chain.py::test_nothing_unknown_runs_when_python_starts" in found["SUP-3"]
    assert sorted(["VAULT-10", "AUTH-2", "VAULT-5"], key=in_order) == ["AUTH-2", "VAULT-5", "VAULT-10"]
