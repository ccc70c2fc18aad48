"""What a process makes of the variables that torchrun and srun set; what it refuses."""

import pytest

from detlab.engine.distributed.place import Environment, Meeting, Place, find_meeting, find_place, refuse_misfits
from detlab.errors import UserError

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_USE_AGENT_STORE": "True", "RANK": "5", "WORLD_SIZE": "8",
    "LOCAL_RANK": "1", "GROUP_RANK": "1", "MASTER_ADDR": "node7", "MASTER_PORT": "29500",
}  # fmt: skip
SRUN = {
    "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1",
    "SLURM_JOB_ID": "812", "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "gpu[07-08]",
}  # fmt: skip
BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
SUBMITIT = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher"


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, Place(0, 1, 0, 0, "")),
        (TORCHRUN, Place(5, 8, 1, 1, "torchrun")),
        (SRUN, Place(3, 4, 1, 1, "srun")),
        ({**SRUN, **TORCHRUN}, Place(5, 8, 1, 1, "torchrun")),  # srun starts a torchrun per node
        ({"DETLAB_PLACE": "1/2/4000/17", **SRUN}, Place(1, 2, 1, 0, "detlab")),
        # A batch script that is run without srun, and a step of one task, stand alone.
        ({name: SRUN[name] for name in ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")}, Place()),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, Place()),
    ],
)
def test_places(environment, place):
    assert find_place(environment) == place


def test_meetings():
    assert find_meeting(Place(5, 8, 1, 1, "torchrun"), TORCHRUN) == Meeting("node7", 29500, hosted=False)
    own = {"DETLAB_PLACE": "1/2/4000/17"}
    assert find_meeting(find_place(own), own) == Meeting("127.0.0.1", 4000)
    place = find_place(SRUN)
    meeting = find_meeting(place, SRUN)
    assert meeting.host == "gpu07"
    assert 15_000 <= meeting.port < 31_000
    assert meeting == find_meeting(place._replace(rank=0), {**SRUN, "SLURM_PROCID": "0"})
    assert meeting.port != find_meeting(place, {**SRUN, "SLURM_STEP_ID": "1"}).port
    assert find_meeting(place, {**SRUN, "MASTER_ADDR": "a", "MASTER_PORT": "7"}) == Meeting("a", 7)


def test_what_fits_is_not_refused(monkeypatch):
    monkeypatch.setenv("SUBMITIT_LOCAL_NTASKS", "1")
    refuse_misfits(Place(), 1, 1, BASIC)
    refuse_misfits(Place(), 4, 1, None)
    refuse_misfits(Place(), 4, 1, SUBMITIT)
    refuse_misfits(Place(0, 8, starter="torchrun"), 4, 2, None)


@pytest.mark.parametrize(
    ("place", "devices", "nodes", "launcher", "sentence"),
    [
        (Place(), 2, 1, BASIC, "trainer.devices=2 in a sweep .* hydra/launcher=submitit_slurm_ddp"),
        (Place(0, 2, starter="srun"), 2, 1, BASIC, "one run per command, or take trainer.devices=1"),
        (Place(), 2, 2, None, "trainer.devices=2 trainer.num_nodes=2: .* srun or torchrun"),
        (Place(0, 4, starter="srun"), 1, 1, None, "srun started 4 processes, but trainer.devices=1 asks for 1"),
        (Place(0, 1, starter="torchrun"), 2, 1, None, "torchrun started 1 processes, but trainer.devices=2"),
    ],
)
def test_refusals(place, devices, nodes, launcher, sentence):
    with pytest.raises(UserError, match=sentence):
        refuse_misfits(place, devices, nodes, launcher)


def test_several_tasks_of_one_local_job_are_refused(monkeypatch):
    monkeypatch.setenv("SUBMITIT_LOCAL_NTASKS", "2")
    with pytest.raises(UserError, match="tasks_per_node=1"):
        refuse_misfits(Place(), 2, 1, SUBMITIT)


def test_lightning_takes_the_place_as_it_is():
    environment = Environment(Place(5, 8, 1, 1, "torchrun"))
    environment.set_global_rank(0)
    environment.set_world_size(8)
    assert (environment.global_rank(), environment.local_rank(), environment.node_rank()) == (5, 1, 1)
    assert environment.world_size() == 8
    assert environment.creates_processes_externally
