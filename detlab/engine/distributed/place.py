"""Where a process stands among those that train one detector together, and who started them."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from typing import Literal, NamedTuple

from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.plugins.environments import ClusterEnvironment

from detlab.errors import UserError

OWN = "DETLAB_PLACE"  # what a process that detlab itself started is told: rank/size/port/process id of the first


class Place(NamedTuple):
    """The `rank`-th of `size` processes, `local_rank`-th on its node; starter: what started all of them.

    A process that nothing else was started with stands alone, until detlab starts others beside it.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    node: int = 0
    starter: Literal["", "detlab", "torchrun", "srun"] = ""


class Meeting(NamedTuple):
    """Where the processes meet: a port of the first one's node; hosted: by the first of them, not by torchrun."""

    host: str
    port: int
    hosted: bool = True


def find_place(environment: Mapping[str, str] = os.environ) -> Place:
    """Read this process's place from the variables that detlab, torchrun or srun has set.

    srun is told by its step: a batch script has the variables of a task, too, but is none. A step of one task
    stands alone.
    """
    if OWN in environment:
        rank, size = map(int, environment[OWN].split("/")[:2])
        return Place(rank, size, rank, 0, "detlab")
    if "TORCHELASTIC_RUN_ID" in environment:
        return _read_place("torchrun", environment, "RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK")
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_NODEID")
        return _read_place("srun", environment, *names)
    return Place()


def _read_place(starter: Literal["torchrun", "srun"], environment: Mapping[str, str], *names: str) -> Place:
    rank, size, local_rank, node = (int(environment[name]) for name in names)
    return Place(rank, size, local_rank, node, starter)


def find_meeting(place: Place, environment: Mapping[str, str] = os.environ) -> Meeting:
    """Where the processes of `place` meet; with srun, on a port of the step's first node that job and step decide."""
    if place.starter == "detlab":
        return Meeting("127.0.0.1", int(environment[OWN].split("/")[2]))
    if place.starter == "torchrun":
        agent = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        return Meeting(environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), hosted=not agent)
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST", "127.0.0.1")
    step = f"{environment.get('SLURM_JOB_ID')}.{environment.get('SLURM_STEP_ID')}"
    port = 15_000 + zlib.crc32(step.encode()) % 16_000  # below the ports that systems give away
    return Meeting(
        environment.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(nodes),
        int(environment.get("MASTER_PORT", port)),
    )


def refuse_misfits(place: Place, devices: int, nodes: int, launcher: str | None) -> None:
    """Raise UserError where `devices` processes on each of `nodes` cannot be had.

    launcher: the class that starts the jobs of a sweep; None for a run of its own.
    """
    wanted, asked = devices * nodes, f"trainer.devices={devices}" + (f" trainer.num_nodes={nodes}" if nodes > 1 else "")
    if wanted > 1 and launcher and "submitit" not in launcher:
        raise UserError(
            f"{asked} in a sweep whose runs share a process: add hydra/launcher=submitit_slurm_ddp (on a cluster) or "
            "hydra/launcher=submitit_local, start one run per command, or take trainer.devices=1."
        )
    if place.starter in ("torchrun", "srun"):
        if place.size != wanted:
            raise UserError(
                f"{place.starter} started {place.size} processes, but {asked} asks for {wanted}: give trainer=ddp with "
                "trainer.devices= the processes per node and trainer.num_nodes= the nodes."
            )
    elif nodes > 1:
        raise UserError(f"{asked}: start one process per device on every node, with srun or torchrun.")
    elif wanted > 1 and int(os.environ.get("SUBMITIT_LOCAL_NTASKS", 1)) > 1:
        raise UserError(f"{asked} in several tasks of one job: take hydra.launcher.tasks_per_node=1.")


class Environment(ClusterEnvironment):
    """Lightning's view of a `Place`: all processes are there already.

    Always given to the trainer, so that it never finds an environment by itself: Lightning's own for SLURM would
    requeue the job, which is submitit's business.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self._size = place.size

    creates_processes_externally = True
    main_address = "127.0.0.1"  # `Group.join` has opened the process group when Lightning would ask for these
    main_port = 0

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._size

    def set_world_size(self, size: int) -> None:
        self._size = size

    def global_rank(self) -> int:
        return self.place.rank

    def set_global_rank(self, rank: int) -> None:
        """It is as it is."""

    def local_rank(self) -> int:
        return self.place.local_rank

    def node_rank(self) -> int:
        return self.place.node
