"""Projects in repositories, whose pipelines gitlab-ci-local runs as GitLab would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

PIPELINE_S = 1800.0


class Repository:
    """A project of `rdv init` in a repository, and its pipelines, with the programs of this environment.

    What is committed is two days old, so that a period has begun since. variables: what GitLab would have stored for
    the project.
    """

    def __init__(self, folder: Path, program: str, template: str = "tabular", more: str = "") -> None:
        self.folder, self._program = folder, program
        self.path = f"team/{folder.name}"
        self.variables: dict[str, str] = {}
        tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        left_out = ("CI_", "RDV_", "CONSUL_", "NOMAD_", "VAULT_", "AWS_", "TWINE_")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(left_out)} | {"PATH": tools}
        moment = (datetime.now(UTC) - timedelta(days=2)).isoformat(timespec="seconds")
        self.environment |= {"GIT_COMMITTER_DATE": moment, "GIT_AUTHOR_DATE": moment}
        self.environment["GCL_IGNORE_PREDEFINED_VARS"] = "CI_COMMIT_TAG,CI_COMMIT_BRANCH,CI_PIPELINE_SOURCE"
        self.rdv("init", str(folder), "--template", template, cwd=folder.parent)
        with (folder / "rdv.toml").open("a") as file:
            file.write(more)
        self.git("init", "-q", "-b", "main")
        self.git("remote", "add", "origin", f"git@example.org:{self.path}.git")
        with (folder / ".git/info/exclude").open("a") as file:
            file.write(".gitlab-ci-local\n.gitlab-ci-local-variables.yml\n")
        self.commit("the beginning")

    def run(self, *argv: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """How a command ends."""
        return subprocess.run(
            argv, cwd=cwd or self.folder, env=self.environment, capture_output=True, text=True, timeout=PIPELINE_S,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip

    def rdv(self, *arguments: str, cwd: Path | None = None) -> str:
        """What a command of whoever works with the project prints."""
        ended = self.run(sys.executable, "-P", "-m", "rdv.cli", *arguments, cwd=cwd)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def git(self, *arguments: str) -> None:
        """Run git as somebody."""
        ended = self.run("git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments)
        assert ended.returncode == 0, ended.stderr

    def commit(self, message: str) -> None:
        """Commit everything."""
        self.git("add", "--all")
        self.git("commit", "-q", "-m", message)

    def change(self, *edits: tuple[str, str, str]) -> None:
        """Change files, each an old text to a new one, and commit that."""
        for file, old, new in edits:
            path = self.folder / file
            assert old in path.read_text(), (file, old)
            path.write_text(path.read_text().replace(old, new))
        self.rdv("api")
        self.commit("a change")

    def ci(
        self, *arguments: str, tag: str = "", branch: str = "develop", source: str = "push", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """How gitlab-ci-local ends. The pipeline is that of a tag, else of a branch, or of neither: a merge request."""
        told = {**self.variables, **variables}
        file = self.folder / ".gitlab-ci-local-variables.yml"
        file.write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in told.items()))
        argv = [self._program, "--force-shell-executor", *arguments, "--variable", f"CI_PIPELINE_SOURCE={source}"]
        for name, value in (("CI_COMMIT_TAG", tag), ("CI_COMMIT_BRANCH", "" if tag else branch)):
            argv += ["--variable", f"{name}={value}"] if value else ["--unset-variable", name]
        return self.run(*argv)

    def green(self, *jobs: str, **how: str) -> str:
        """What a pipeline said that was green. jobs: these alone."""
        ended = self.ci(*jobs, **how)
        said = ended.stdout + ended.stderr
        assert ended.returncode == 0, said[-6000:]
        return said

    def red(self, *jobs: str, **how: str) -> str:
        """The sentence of the last of some jobs, the only one that was red."""
        ended = self.ci(*jobs, **how)
        said = ended.stdout + ended.stderr
        assert ended.returncode, said[-6000:]
        assert f" FAIL  {jobs[-1]}" in said, said[-6000:]
        assert said.count(" FAIL  ") == 1, said[-6000:]
        # a red job's last lines are shown once more at the end
        [sentence] = {line.partition("> rdv: ")[2] for line in said.splitlines() if "> rdv: " in line}
        print(f"red: {jobs[-1]}: {sentence}")
        return sentence

    def told(self, stage: str) -> dict[str, Any]:
        """What a stage has left."""
        told: dict[str, Any] = json.loads((self.folder / f"rdv-ci/{stage}.json").read_text())["told"]
        return told


class Deployed(Repository):
    """One whose environments are on a cluster, whose Vault knows who signs the id_tokens of its jobs."""

    def __init__(
        self, folder: Path, program: str, cluster: Any, issuer: Any, template: str = "tabular", more: str = "",
        driver: str = "raw_exec",
    ) -> None:  # fmt: skip
        """more: the end of rdv.toml. driver: what a place says of how jobs run there."""

        def run_by(place: str) -> str:
            return place.replace("driver=raw_exec", f"driver={driver}")

        super().__init__(folder, program, template, run_by(cluster.environments_toml()) + more)
        self._issuer = issuer
        given = cluster.take_gitlab(issuer.url, issuer.jwks_url, [self.path], "rdv")
        self.variables = {name: run_by(value) for name, value in given.items()}

    def id_token(self, expires_s: float = 7200.0, tag: str = "") -> str:
        """An id_token as a job of a branch gets it, or one of a protected tag."""
        kind = {"ref": tag, "ref_type": "tag"} if tag else {}
        token: str = self._issuer.token(self.path, expires_s, **kind)
        return token

    def ci(
        self, *arguments: str, tag: str = "", branch: str = "develop", source: str = "push", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """The same with an id_token, unless the variables bring one."""
        told = {"VAULT_ID_TOKEN": self.id_token(tag=tag), **variables}
        return super().ci(*arguments, tag=tag, branch=branch, source=source, **told)

    def served(self, env: str, model: str) -> str:
        """The version of a model that an environment serves."""
        listed = json.loads(self.rdv("models", "list", "--env", env, "-o", "json"))
        return str(next(one["current"] for one in listed if one["model"] == model))
