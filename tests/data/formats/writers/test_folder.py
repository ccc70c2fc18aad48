"""A folder of labels appears whole or not at all."""

from __future__ import annotations

import pytest

from detlab.data.formats.folder_writer import RECORD, refuse_used, whole_folder
from detlab.errors import UserError


def write(place, text="new") -> None:
    (place / "sub").mkdir()
    (place / "sub/file").write_text(text)
    (place / RECORD).write_text("{}")


def test_it_appears_at_the_end(tmp_path):
    target = tmp_path / "deep/out"
    with whole_folder(target) as place:
        write(place)
        assert not target.exists()
        assert place.parent == target.parent
    assert (target / "sub/file").read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in target.parent.iterdir()] == ["out"]


def test_nothing_stays_of_what_failed(tmp_path):
    def fail(error) -> None:
        with whole_folder(tmp_path / "out") as place:
            write(place)
            raise error

    for error, caught in ((KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space left"), UserError)):
        with pytest.raises(caught):
            fail(error)
        assert list(tmp_path.iterdir()) == []


def test_labels_are_overwritten_when_asked_to(tmp_path):
    target = tmp_path / "out"
    target.mkdir()  # an empty one is as good as none
    with whole_folder(target) as place:
        write(place, "old")
        (place / "more").write_text("")
    with pytest.raises(UserError, match=r"out: there are labels already; name another folder, or add overwrite=true"):
        refuse_used(target)
    with pytest.raises(KeyboardInterrupt), whole_folder(target, overwrite=True) as place:
        raise KeyboardInterrupt
    assert (target / "sub/file").read_text() == "old"
    with whole_folder(target, overwrite=True) as place:
        write(place)
    assert sorted(path.name for path in target.iterdir()) == [RECORD, "sub"]
    assert (target / "sub/file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_other_things_are_never_overwritten(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/one.jpg").write_text("")
    (tmp_path / "notes").write_text("")
    with pytest.raises(UserError, match="photos: this folder holds other things; name an empty or a new one"):
        refuse_used(tmp_path / "photos", overwrite=True)
    with pytest.raises(UserError, match="notes: that is a file; name a folder"):
        refuse_used(tmp_path / "notes")
