"""The count of the aLRP paper's Table 1 on the lab's own configs."""

from __future__ import annotations

import inspect

import pytest
from hydra import initialize_config_dir
from hydra.utils import get_object

from detlab.config.launch import CONFIG_DIR, groups
from experiments.alrp.loss_parameters import FIXED
from experiments.alrp.table1 import PAPER, main, methods, parameters, rows


@pytest.fixture
def configs():
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("configs")
def test_the_labs_configs_give_the_papers_counts():
    counts = {row.method: sum(p.counts for p in parameters(row.loss, row.elsewhere)) for row in PAPER if row.loss}
    assert counts == {row.method: row.paper for row in PAPER if row.loss}
    assert (counts["AP Loss"], counts["Focal Loss"], counts["aLRP Loss"]) == (3, 4, 1)
    assert counts["Faster R-CNN"] == 9  # three of which its detector has


def test_fixed_numbers_are_what_their_class_takes():
    for name, keys in FIXED.items():
        assert keys.keys() <= inspect.signature(get_object(name)).parameters.keys()


@pytest.mark.slow
@pytest.mark.usefixtures("configs")
def test_every_loss_and_every_method_of_the_lab_is_listed():
    assert {row.loss for row in rows()} >= set(groups()["loss"])
    assert sorted(method for taken in methods().values() for method in taken) == groups()["method"]


@pytest.mark.slow
def test_the_table_is_printed(capsys):
    main()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert next(line for line in lines if line[:2] == ["Focal", "Loss"])[-2:] == ["4", "4"]
    assert next(line for line in lines if line[:2] == ["aLRP", "Loss"])[-2:] == ["1", "1"]
    assert next(line for line in lines if line[:2] == ["Faster", "R-CNN"])[-2:] == ["9", "9"]
    assert next(line for line in lines if line[:1] == ["CenterNet"])[-2:] == ["–", "10"]
