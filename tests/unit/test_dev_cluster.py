"""What a dev cluster tells its servers, and what it remembers, as values."""

import importlib.resources
import tomllib
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from rdv.backends.devcluster import environments as names
from rdv.backends.devcluster import gitlab
from rdv.backends.devcluster import rights_files as files
from rdv.backends.devcluster.cluster import DevCluster
from rdv.backends.devcluster.nomad_config import Links, client_config, server_config
from rdv.backends.devcluster.ports import Ports, TaskPorts
from rdv.backends.devcluster.state import USUAL, State, locked, new_state, read_state, write_state
from rdv.config import Environment
from rdv.errors import CorruptState, LostRace, UsageError

AT = names.Addresses(
    consul="http://c:1", vault="http://v:2", batch="http://b:3", services="http://s:4", s3="http://o:5", hdfs="",
    tokens=Path("/kept/tokens"),
)  # fmt: skip


def test_agents_are_told_of_consul_and_vault_only_when_linked() -> None:
    """An agent without links looks for no Consul; with links it hands its workloads' identities to both servers."""
    alone = server_config("batch", Path("/d"), (1, 2, 3))
    assert "auth_method" not in alone
    assert "vault {" not in alone
    assert "auto_advertise   = false" in alone
    links = Links("nomad-batch", 8500, "agent-token", 8200)
    server = server_config("batch", Path("/d"), (1, 2, 3), links)
    for text in (server, client_config("batch", Path("/d"), (1, 2, 3), 9, 64, links)):
        assert text.count("consul {") == text.count("vault {") == 1
        assert 'task_auth_method    = "nomad-batch"' in text
        assert 'jwt_auth_backend_path = "nomad-batch"' in text
        assert 'token               = "agent-token"' in text


def test_a_client_waits_for_its_servers_without_end() -> None:
    """Templates render within half a second, and an absent Consul, Vault or Nomad ends no task, however long."""
    text = client_config("batch", Path("/d"), (1, 2, 3), 9, 64, task_ports=(30000, 30999), cgroup="mine")
    assert text.count("attempts    = 0") == 3
    assert 'min = "50ms"' in text
    assert 'max = "500ms"' in text
    assert "min_dynamic_port  = 30000" in text
    assert "max_dynamic_port  = 30999" in text
    assert 'cgroup_parent     = "mine"' in text
    assert "docker" not in text
    with_docker = client_config("batch", Path("/d"), (1, 2, 3), 9, 64, docker_socket=Path("/d/docker.sock"))
    assert 'endpoint = "unix:///d/docker.sock"' in with_docker
    in_chroot = client_config("batch", Path("/d"), (1, 2, 3), 9, 64, chroot={"/r/usr": "/usr", "/r/usr/bin": "/bin"})
    assert 'chroot_env {\n    "/r/usr" = "/usr"\n    "/r/usr/bin" = "/bin"\n  }\n' in in_chroot
    assert "chroot_env" not in text


@pytest.mark.parametrize("env", names.ENVIRONMENTS)
def test_an_environment_reaches_only_its_own(env: str) -> None:
    """No rule, role or place of an environment names another one's namespace, key prefix, bucket or secret."""
    others = [other for other in names.ENVIRONMENTS if other != env]
    told = [*names.consul_policies(env).values(), *names.vault_policies(env).values()]
    told += [rules for cluster in names.CLUSTERS for rules, _ in names.nomad_policies(cluster, env).values()]
    told += [str(names.consul_roles(cluster, env)) for cluster in names.CLUSTERS]
    told += names.places(env, AT).values()
    assert not [(other, text) for other in others for text in told if other in text]


def test_steps_get_nothing_in_consul_and_only_reading_in_vault() -> None:
    """The namespace of steps has no role in Consul, its pipelines' has; workloads' secrets are read-only."""
    assert list(names.consul_roles("batch", "dev")) == ["nomad-batch-dev-pipelines"]
    assert names.vault_policies("dev")["rdv-dev-workloads"] == (
        'path "secret/data/rdv/dev/*" {\n  capabilities = ["read"]\n}\n'
    )
    policies = [names.vault_roles(cluster, "dev")["rdv-dev"]["token_policies"] for cluster in names.CLUSTERS]
    assert policies == [["rdv-dev-workloads"], ["rdv-dev-workloads", "rdv-dev-services"]]
    person, job_namespace = names.nomad_policies("batch", "dev")["rdv-dev"]
    assert job_namespace == ""
    assert 'namespace "dev-pipelines"' in person
    rules, job_namespace = names.nomad_policies("batch", "dev")["rdv-dev-pipelines"]
    assert job_namespace == "dev-pipelines"
    assert 'namespace "dev"' in rules
    assert 'namespace "dev-pipelines" {\n  capabilities = ["read-job"]\n}\n' in rules


def test_templates_are_read_as_terraform_reads_them() -> None:
    """${name} is a hole, $${ stays as ${; an unknown name and every other directive is refused, not left standing."""
    assert files.filled('p "${env}-" $${value.x} $5 {', {"env": "dev"}) == 'p "dev-" ${value.x} $5 {'
    for wrong in ("${other}", "${ env }", "${upper(env)}", "%{ if env }", "%%{"):
        with pytest.raises(ValueError, match="is not one of env"):
            files.filled(wrong, {"env": "dev"})


def test_every_file_of_rights_is_used() -> None:
    """Each file that ships is one that the tables name or rdv reads, and each that is named ships."""
    there = {one.name for one in importlib.resources.files("rdv.terraform_rights").iterdir()} - {"__pycache__"}
    consul, vault, nomad = (files.table(f"{server}.json", "dev") for server in ("consul", "vault", "nomad"))
    pipelines = files.gitlab("staging")
    named: set[str] = set()
    for told in (consul, vault, pipelines["consul"], pipelines["vault"]):
        named |= set(told["policies"].values())
    for told in (nomad, pipelines["nomad"]):
        named |= {one["rules"] for policies in told["policies"].values() for one in policies.values()}
    tables = {f"{name}.json" for name in ("names", "places", "login", "consul", "vault", "nomad")}
    tables |= {f"gitlab{what}.json" for what in ("", "-login", "-places")}
    assert there == named | tables | {"__init__.py", "consul-agents.hcl"}


def test_pipelines_of_a_gitlab_reach_only_their_own_environment() -> None:
    """Policies and variables of an environment's pipelines name nothing of another one; production wants protected

    tags of the projects that were named, and no pipeline comes near dev.
    """
    assert gitlab.environments() == ("staging", "production")
    for env, other in (("staging", "production"), ("production", "staging")):
        told = files.gitlab(env, ["team/shop"], "rdv")
        hcl = [*told["consul"]["policies"].values(), *told["vault"]["policies"].values()]
        hcl += [one["rules"] for each in told["nomad"]["policies"].values() for one in each.values()]
        texts = [files.rules(file, env) for file in hcl] + list(gitlab.variables(env, AT).values())
        assert not [text for text in texts if other in text or "dev" in text]
    claims = files.gitlab("production", ["team/shop", "team/a"])["vault"]["bound_claims"]["production"]
    assert claims == {"project_path": ["team/shop", "team/a"], "ref_type": ["tag"], "ref_protected": ["true"]}


def test_a_pipeline_is_told_places_without_a_secret() -> None:
    """Its variables name the token files that a stage writes, logins by the job's own id_token, and nothing else."""
    told = gitlab.variables("staging", AT)
    login = "address=http://v:2&auth=gitlab&role=rdv-staging-ci&jwt_env=VAULT_ID_TOKEN"
    assert told["RDV_CI_TOKENS_STAGING"] == f"vault:secret/rdv-ci/staging?{login}"
    assert told["RDV_ENVIRONMENTS_STAGING_SECRETS"] == f"vault:secret/rdv/staging?{login}"
    files_named = {name: place for name, place in told.items() if "token_file=" in place}
    assert {name.rpartition("_")[2] for name in files_named} == {"CATALOG", "CLUSTER", "REGISTRY", "SERVICES"}
    assert all("token_file=.rdv/ci/staging/" in place for place in files_named.values())
    assert len(told) == 6


def test_a_service_has_the_name_of_its_namespace_in_front() -> None:
    """Identities become services only under names of their own namespace, and tasks get their namespace's role."""
    role, *services = names.binding_rules("services")
    assert role["BindName"] == "nomad-services-${value.nomad_namespace}"
    assert [rule["Selector"] for rule in services if '"dev"' in rule["Selector"]] == [
        '"nomad_service" in value and value.nomad_namespace == "dev" and value.nomad_service matches "^dev-"'
    ]


def test_a_person_announces_under_names_of_the_environment() -> None:
    """Whoever works with an environment may write services whose names begin with it; jobs' tasks may only look."""
    told = names.consul_policies("dev")
    assert 'service_prefix "dev-" {\n  policy = "write"\n}\n' in told["rdv-dev"]
    assert not [kind for kind in ("pipelines", "services") if "dev-\"" in told[f"rdv-dev-{kind}"]]


def test_the_environments_are_settings() -> None:
    """What is written for rdv.toml is TOML that rdv takes, with files for credentials, and HDFS when it is there."""
    every = {env: names.places(env, AT) for env in names.ENVIRONMENTS}
    read = tomllib.loads(names.environments_toml(every, AT))["environments"]
    assert set(read) == {"dev", "staging", "production"}
    made = msgspec.convert(read["staging"], Environment)
    assert made.registry == "consul:rdv/staging?address=http://c:1&token_file=/kept/tokens/staging/consul.token"
    assert made.artifacts.startswith("s3:rdv-staging?")
    assert "secret=s3" in made.artifacts
    assert made.intermediate == ""
    assert made.bus == "grpc:?tls=vault&mount=pki&role=rdv-staging&domain=staging.rdv.internal"
    assert made.catalog == "consul:staging?address=http://c:1&token_file=/kept/tokens/staging/consul.token"
    with_hdfs = msgspec.structs.replace(made, **names.places("staging", _with_hdfs()))
    assert with_hdfs.intermediate == "hdfs:/rdv/staging?url=http://h:6&user=root"


def _with_hdfs() -> names.Addresses:
    from dataclasses import replace

    return replace(AT, hdfs="http://h:6")


def test_the_usual_ports_are_taken_where_they_are_free() -> None:
    """A person's cluster has the ports that people know, and another one beside it, or a test's, has others."""
    with ExitStack() as first, ExitStack() as second, ExitStack() as tests:
        mine, other, test = new_state(first, usual=True), new_state(second, usual=True), new_state(tests, usual=False)
        states = (mine, other, test)
        every = [port for state in states for ports in state.ports.values() for port in ports]
        assert len(every) == len(set(every)) == 3 * sum(map(len, USUAL.values()))
        ranges = [span for state in states for span in state.task_ports.values()]
        assert len(set(ranges)) == 6
        assert len({state.secrets["consul"] for state in states}) == 3


def test_ranges_for_tasks_do_not_overlap() -> None:
    """Two clusters' tasks never get the same port, and none that servers get."""
    some = [TaskPorts() for _ in range(20)]
    spans = sorted((one.first, one.last) for one in some)
    assert all(last < first for (_, last), (first, _) in zip(spans, spans[1:], strict=False))
    with Ports(20) as servers:
        assert max(servers.numbers) < spans[0][0]
    for one in some:
        one.close()


def test_what_is_remembered_is_private(tmp_path: Path) -> None:
    """The state holds secrets: only its user reads it; broken, it says what to do; absent, there is no cluster."""
    assert read_state(tmp_path) is None
    with ExitStack() as holds:
        state = new_state(holds, usual=False)
    write_state(tmp_path, state)
    file = tmp_path / "state.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_state(tmp_path) == state
    file.write_text("{")
    with pytest.raises(CorruptState, match="dev-cluster down"):
        read_state(tmp_path)


def test_processes_of_an_earlier_boot_are_not_ours(tmp_path: Path) -> None:
    """After the machine's restart a process id that is written down is somebody else's."""
    with ExitStack() as holds:
        state = new_state(holds, usual=False)
    record = {"consul": {"pid": 1, "born": 1}}
    here = msgspec.convert({**msgspec.to_builtins(state), "processes": record}, State)
    assert here.recorded("consul") is not None
    assert here.recorded("vault") is None
    here.boot = "another"
    assert here.recorded("consul") is None


def test_one_command_at_a_time(tmp_path: Path) -> None:
    """Two commands do not work on one cluster at once: the second is told so."""
    folder = tmp_path / "cluster"
    with locked(folder, Path.mkdir), pytest.raises(LostRace, match="at work"), locked(folder, lambda _: None):
        pass


def test_nothing_is_up(tmp_path: Path) -> None:
    """Where nothing was started, there is no status, nothing to end, and no environment; looking makes no folder."""
    cluster = DevCluster(tmp_path / "none", {})
    assert cluster.status() == []
    assert cluster.down() is False
    with pytest.raises(UsageError, match="rdv dev-cluster up"):
        cluster.environments()
    with pytest.raises(UsageError, match="hdfs, docker"):
        cluster.up(["kafka"])
    assert not (tmp_path / "none").exists()


def test_without_servers_nothing_is_left(tmp_path: Path) -> None:
    """Where the servers were never built, the error says how, and no folder stays."""
    cluster = DevCluster(tmp_path / "none", {"RDV_SERVERS": str(tmp_path / "empty"), "PATH": ""}, tied=True)
    with pytest.raises(UsageError, match="make servers"):
        cluster.up()
    assert not (tmp_path / "none").exists()


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    """Neither `up` nor `down` touches a folder that holds anything but a dev cluster."""
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "state.json").write_text("{")
    cluster = DevCluster(tmp_path, {})
    for command in (cluster.up, cluster.down):
        with pytest.raises(UsageError, match=r"thesis\.txt"):
            command()
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_lost_state_ends_in_nothing(tmp_path: Path) -> None:
    """A folder whose state is lost or broken cannot be brought up, and can be taken down."""
    folder = tmp_path / "cluster"
    for broken in (None, "{"):
        (folder / "consul" / "data").mkdir(parents=True)
        if broken:
            (folder / "state.json").write_text(broken)
        cluster = DevCluster(folder, {})
        with pytest.raises(CorruptState, match="rdv dev-cluster down"):
            cluster.up()
        assert cluster.down()
        assert not folder.exists()
