"""All servers of the cluster side on this machine, wired together: two Nomads, Consul, Vault, S3; HDFS and Docker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rdv.backends.devcluster import environments, gitlab, leftovers, rights
from rdv.backends.devcluster.adopted import boot, born
from rdv.backends.devcluster.nomad import NomadServers
from rdv.backends.devcluster.parents import register_parents
from rdv.backends.devcluster.programs import cache_folder, write_private
from rdv.backends.devcluster.servers import Member, Servers, address, addresses, is_ready, marks, names
from rdv.backends.devcluster.state import Recorded, State, locked, new_secret, new_state, read_state, write_state
from rdv.backends.devcluster.teardown import check_ours, take_down
from rdv.errors import CorruptState, UsageError

EXTRAS = ("hdfs", "docker")


def usual_folder(environ: Mapping[str, str]) -> Path:
    """Where a person's cluster is, unless told otherwise."""
    return cache_folder(environ) / "dev-cluster"


class DevCluster:
    """A cluster with everything that it keeps in one folder; `up` and `down` may be called by different processes.

    tied: its servers end with the thread that calls `up`, and listen on ports of their own (tests); else they stay,
    on the usual ports where those are free. say: is told what goes on, a line at a time.
    """

    def __init__(
        self, folder: Path, environ: Mapping[str, str], tied: bool = False, say: Callable[[str], object] = len
    ) -> None:
        self.folder = folder.absolute()
        self._environ, self._tied, self._say = environ, tied, say
        self._state: State | None = None
        self._servers: Servers | None = None
        self._holds = ExitStack()

    @property
    def servers(self) -> Servers:
        """The servers, once `up` was called here."""
        if self._servers is None:
            raise UsageError(f"the cluster in {self.folder} is not up", "call up() first")
        return self._servers

    def up(self, extras: Sequence[str] = (), chroot: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """Have every server run, wired and with all rights in place; the names of those that had to be started.

        extras: of `hdfs` and `docker`, what shall run beside the others and those of earlier calls. chroot: what tasks
        of the exec driver see of this machine, path here to path there; as before unless given. What fails or is
        interrupted takes down a new cluster, and of one that was there what it had started.
        """
        if unknown := sorted(set(extras) - set(EXTRAS)):
            raise UsageError(f"a dev cluster has no {', '.join(unknown)}", f"choose from: {', '.join(EXTRAS)}")
        with locked(self.folder, _make_folder):
            there, known = check_ours(self.folder), read_state(self.folder)
            if there and known is None:
                raise CorruptState(f"the state of {self.folder} is lost", "type: rdv dev-cluster down, then up")
            if not there:
                self.folder.chmod(0o700)  # servers keep tokens in their data
            begun: list[Member] = []
            try:
                self._state = state = known or new_state(self._holds, usual=not self._tied)
                write_state(self.folder, state)
                wanted = tuple(one for one in EXTRAS if one in (*extras, *state.extras))
                seen = state.chroot if chroot is None else dict(chroot)
                if self._servers is None or (wanted, seen) != (state.extras, state.chroot):
                    state.extras, state.chroot = wanted, seen
                    self._servers = Servers(self.folder, self._environ, state, self._tied)
                self._bring_up(self._servers, state, begun)
            except BaseException:
                self._undo(begun, everything=known is None)
                raise
            if not self._tied:
                self._holds.close()
        return tuple(member.name for member in begun)

    def down(self) -> bool:
        """End everything and leave nothing; False when there was nothing."""
        if not self.folder.exists():
            return False
        try:
            with locked(self.folder, lambda folder: None):
                check_ours(self.folder)
                self._take_down()
        except FileNotFoundError:  # another command was faster
            return False
        return True

    def status(self) -> list[dict[str, Any]]:
        """Every server: its name, address, process id (0: none runs) and whether it is ready; none when not up."""
        state = read_state(self.folder)
        if state is None:
            return []
        listed = names(state.extras)
        with ThreadPoolExecutor(len(listed)) as pool:
            ready = list(pool.map(lambda name: is_ready(self.folder, state, name), listed))
        return [
            {
                "server": name,
                "address": address(self.folder, state, name),
                "pid": _live_pid(state, name),
                "ready": is_up and bool(_live_pid(state, name)),
            }
            for name, is_up in zip(listed, ready, strict=True)
        ]

    def environments(self) -> dict[str, dict[str, str]]:
        """The settings of each environment, as `[environments.NAME]` of an rdv.toml says them."""
        at = addresses(self.folder, self._known_state())
        return {env: environments.places(env, at) for env in environments.ENVIRONMENTS}

    def environments_toml(self) -> str:
        """The same as text for the end of an rdv.toml."""
        return environments.environments_toml(self.environments(), addresses(self.folder, self._known_state()))

    def token_file(self, env: str, server: str) -> Path:
        """The file with the token of the person of an environment.

        server: `nomad-batch`, `nomad-services`, `consul` or `vault`.
        """
        return environments.token_file(self.folder / "tokens", env, server)

    def take_gitlab(self, issuer: str, jwks_url: str, projects: Sequence[str], audience: str) -> dict[str, str]:
        """Have Vault take the id_tokens of the jobs of some GitLab projects; the variables that their pipelines need.

        The cluster has to be up, by this object or by a call of its `up`, which is quick when nothing is missing.
        """
        gitlab.wire_gitlab(self.servers, issuer, jwks_url, projects, audience)
        at = addresses(self.folder, self._known_state())
        return {name: value for env in gitlab.environments() for name, value in gitlab.variables(env, at).items()}

    def _known_state(self) -> State:
        state = self._state or read_state(self.folder)
        if state is None:
            raise UsageError(f"no dev cluster is up in {self.folder}", "type: rdv dev-cluster up")
        return state

    def _bring_up(self, servers: Servers, state: State, begun: list[Member]) -> None:
        if state.boot != boot():  # what ran before the machine's last start is gone
            state.boot, state.processes = boot(), {}
        first = {member.name: member for member in servers.first()}
        self._launch(first.values(), state, begun)
        later = first.pop("hdfs", None)  # the slowest, and none of the others waits for it
        tokens = self.folder / "tokens"
        then: dict[str, Callable[[], None]] = {
            "consul": lambda: self._consul_rights(servers, state, tokens),
            "vault": lambda: self._vault_rights(servers, state, tokens),
            "s3": lambda: _each(servers.s3.make_bucket, environments.bucket),
            **{f"nomad-{name}": _later(_nomad_rights, nomad, tokens) for name, nomad in servers.nomads.items()},
        }
        self._together([_in_turn(one.settle, then.get(one.name)) for one in first.values()], first.values())
        clients = servers.clients()
        self._launch(clients, state, begun)
        jobs: list[Callable[[], None]] = [client.settle for client in clients]
        for nomad in servers.nomads.values():
            jobs += [_later(rights.wire_consul, servers.consul, nomad), _later(rights.wire_vault, servers.vault, nomad)]
        if later is not None and servers.hdfs is not None:
            jobs.append(_in_turn(later.settle, _later(_each, servers.hdfs.make_folder, environments.hdfs_folder)))
        self._together(jobs, [*clients, *([later] if later else [])])
        write_private(self.folder / "environments.toml", self.environments_toml())
        clusters = [settings["cluster"].partition(":")[2] for settings in self.environments().values()]
        register_parents(clusters, self.folder, self._say)

    def _consul_rights(self, servers: Servers, state: State, tokens: Path) -> None:
        agents = {cluster: state.secrets[f"agents-{cluster}"] for cluster in environments.CLUSTERS}
        rights.apply_consul(servers.consul, agents)
        rights.hand_out_consul(tokens, servers.consul, new_secret)

    def _vault_rights(self, servers: Servers, state: State, tokens: Path) -> None:
        rights.apply_vault(servers.vault, state.s3_keys)
        rights.hand_out_vault(tokens, servers.vault)

    def _launch(self, members: Iterable[Member], state: State, begun: list[Member]) -> None:
        """Start what does not run, from this thread, and remember it."""
        for member in members:
            record = state.recorded(member.name)
            if member.process.runs or (record and member.process.adopt(record.pid, record.born)):
                member.process.thaw()
                if not member.outdated:
                    continue
                member.process.stop()
            leftovers.kill(leftovers.processes_with(marks(self.folder)[member.name]))
            begun.append(member)
            member.launch()
            state.processes[member.name] = Recorded(member.process.pid, member.process.born)
        write_state(self.folder, state)

    def _together(self, jobs: Sequence[Callable[[], None]], waited_for: Iterable[Member]) -> None:
        """Do some things at once; when one fails, or Ctrl-C is pressed, nobody waits for a server any more."""
        begun = time.monotonic()
        with ThreadPoolExecutor(max(1, len(jobs))) as pool:
            try:
                for done in as_completed([pool.submit(job) for job in jobs]):
                    done.result()
            except BaseException:
                for member in waited_for:
                    member.process.give_up()
                raise
        self._say(f"ready after {time.monotonic() - begun:.1f} s: {', '.join(one.name for one in waited_for)}")

    def _undo(self, begun: Iterable[Member], everything: bool) -> None:
        if everything:
            self._take_down()
            return
        for member in begun:
            member.process.stop()

    def _take_down(self) -> None:
        try:
            state = self._state or read_state(self.folder)
        except Exception:  # broken: what runs is found by its command lines
            state = None
        own = {}
        if self._servers is not None:
            own = {one.name: one.process for one in [*self._servers.first(), *self._servers.clients()]}
        take_down(self.folder, state, own, self._say)
        self._servers = self._state = None
        self._holds.close()


def _nomad_rights(nomad: NomadServers, tokens: Path) -> None:
    rights.apply_nomad(nomad)
    rights.hand_out_nomad(tokens, nomad)


def _each(make: Callable[[str], None], name: Callable[[str], str]) -> None:
    for env in environments.ENVIRONMENTS:
        make(name(env))


def _later(call: Callable[..., None], *arguments: Any) -> Callable[[], None]:
    return lambda: call(*arguments)


def _in_turn(*jobs: Callable[[], None] | None) -> Callable[[], None]:
    def both() -> None:
        for job in jobs:
            if job is not None:
                job()

    return both


def _live_pid(state: State, name: str) -> int:
    record = state.recorded(name)
    return record.pid if record and born(record.pid) == record.born else 0


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
