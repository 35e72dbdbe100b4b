"""The seeds of the teacher and of the classifiers that students start from."""

from pipeline.teacher import seeds


def test_no_student_starts_from_the_teacher() -> None:
    found = seeds(0, range(100))
    assert found.pop(".") not in found.values()
    assert found == {f"pretrained/s{seed}": seed for seed in range(100)}


def test_another_run_has_another_teacher() -> None:
    assert len({seeds(run, [])["."] for run in range(100)}) == 100
