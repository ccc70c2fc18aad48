"""What a user types before any data: help, misspelt verbs, keys and options."""

import subprocess
import sys
import time

import pytest

from detlab.cli import VERBS
from detlab.config.launch import CONFIG_DIR


def test_help_names_every_verb_and_imports_nothing_heavy():
    heavy = "{'torch', 'hydra', 'lightning', 'numpy'}"
    code = f"import sys; from detlab.cli import main; main(['--help']); print(sorted(set(sys.modules) & {heavy}))"
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    took = time.monotonic() - begun
    for verb in ("train", "eval", "predict", "check", "report"):
        assert f"  {verb} " in done.stdout
    assert done.stdout.rstrip().endswith("[]")
    assert took < 60  # a hang, not a speed: nothing heavy is imported


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_imports_no_command(verb):
    heavy = "{'torch', 'hydra', 'lightning', 'numpy'}"
    code = (
        f"import sys; from detlab.cli import main; main(['{verb}', '--help']); "
        f"print(sorted(name for name in sys.modules if name in {heavy} or name.startswith('detlab.commands')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"usage: detlab {verb} ")
    assert done.stdout.rstrip().endswith("[]")


@pytest.mark.parametrize("verb", [verb for verb in VERBS if (CONFIG_DIR / f"{verb}.yaml").is_file()])
def test_help_of_a_verb_explains_each_of_its_keys(detlab, verb):
    result = detlab(verb, "--help")
    assert result.status == 0
    for line in (CONFIG_DIR / f"{verb}.yaml").read_text().splitlines():
        assert line in result.out
    assert "hydra: quiet\n\n" not in result.out.partition("What a group may be")[2]
    if verb == "label":
        assert "  postprocess: nms, " in result.out
    if verb == "cost":
        assert "all that `detlab train --help` lists" in result.out


def test_a_misspelt_verb_is_answered_with_the_nearest(detlab):
    result = detlab("trian")
    assert result.status == 2
    assert "there is no verb 'trian' (did you mean 'train'?)" in result.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "answer"),
    [
        ("assigner=atsss", "There is no assigner=atsss (did you mean 'atss'?)"),
        ("data=voc_07", "There is no data=voc_07 (did you mean 'voc07'"),
        ("lr=0.1", "There is no key 'lr' in the config (did you mean 'schedule.lr'?)"),
        ("schedule.lrr=0.1", "There is no key 'schedule.lrr' in the config (did you mean 'schedule.lr'?)"),
        ("asigner=atss", "There is no key 'asigner' in the config (did you mean 'assigner'"),
        ("detector.head.chanels=3", "(did you mean 'detector.head.channels'?)"),
        ("+schedule.iteration=5", "There is no key 'schedule.iteration' in the config (did you mean 'iterations'"),
        ("schedule.lr=fast", "schedule.lr='fast': input should be a valid number"),
        ("schedule.decay=cosin", "(did you mean 'cosine'?)"),
        ("loader.batch_size=0", "loader: Expected batch_size >= 1, got 0."),
        ("assigner.positive=1.5", "assigner: "),
        ("schedule.iterations=-3", "schedule: Expected iterations >= 1, got -3."),
        ("seed=abc", "seed='abc': input should be a valid integer"),
        ("trainer.precision=bf16-true", "take bf16-mixed"),
        ("detector.head.quality=iou", "detector.head.quality=none"),
        ("data=custom", "data.format has no value"),
    ],
)
def test_a_wrong_config_is_answered_before_any_data_is_read(detlab, tmp_path, override, answer):
    result = detlab("train", override)
    assert result.status == 1
    assert answer in result.err
    assert "Traceback" not in result.err
    assert list(tmp_path.iterdir()) == []
