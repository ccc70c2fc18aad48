import pytest

from detlab.errors import UserError
from detlab.reporting.study.strict_yaml import read_yaml


def test_plain_yaml_is_read(tmp_path):
    file = tmp_path / "t.yaml"
    file.write_text("base: &base {x: 1}\nmore:\n  <<: *base\n  y: {x: 1, z: [2, {x: 3}]}\n")
    assert read_yaml(file) == {"base": {"x": 1}, "more": {"x": 1, "y": {"x": 1, "z": [2, {"x": 3}]}}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", "line 4: malformed YAML ('b' stands there twice)."),
        ("- {a: 1}\n- {a: 1, 'a': 2}\n", "line 2: malformed YAML ('a' stands there twice)."),
        ("? {a: 1}\n: 2", "line 1: malformed YAML (found unhashable key)."),
        ("a: !!python/name:os.system", "line 1: malformed YAML (could not determine a constructor"),
        ("a: 'b", "line 1: malformed YAML (found unexpected end of stream)."),
    ],
)
def test_what_is_malformed_or_repeated_is_said_with_its_line(tmp_path, text, said):
    file = tmp_path / "t.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        read_yaml(file)
    assert str(error.value).startswith(f"{file}, {said}")
