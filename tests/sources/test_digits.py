import hashlib

from pipeline.artifacts.codec import decode
from pipeline.sources import digits


def test_digits_are_real_disjoint_and_complete() -> None:
    found = digits.load()
    assert found.classes == ["0", "2", "3", "5", "7", "9"]
    items = [item for part in found.splits.values() for item in part]
    assert len(items) == len({item.key for item in items}) == 1079
    assert all(found.classes[item.label] == item.key.split("-")[1] for item in items)
    assert decode(items[0].read(), "").shape == (1, 8, 8)
    classes = set(digits.ID_DIGITS).union(*digits.NEAR_DIGITS.values())
    assert len(classes) == 10  # no digit is in two roles
    roles = {name: ood.role for name, ood in found.ood.items()}
    assert {name for name, role in roles.items() if role == "near"} == {"digit-4", "digit-8"}
    assert {name for name, role in roles.items() if role == "val-near"} == {"digit-1", "digit-6"}
    assert sum(role == "far" for role in roles.values()) >= 5


def test_sets_that_are_tiles_of_one_photograph_say_so() -> None:
    sets = digits.load().ood
    tiles = {name for name, own in sets.items() if own.one_photograph}
    assert tiles == {*digits.PHOTOGRAPHS["far"], *digits.PHOTOGRAPHS["val-far"]} - {"faces"}
    assert len(tiles) == 11


def test_validation_photographs_are_others_than_those_for_testing() -> None:
    files = [set(photographs.values()) for photographs in digits.PHOTOGRAPHS.values()]
    assert not set.intersection(*files)
    ood = digits.load().ood
    hashes = {name: {hashlib.sha256(item.read()).digest() for item in own.items} for name, own in ood.items()}
    tested = [name for name, own in ood.items() if own.role in ("near", "far")]
    chosen_on = [name for name, own in ood.items() if own.role.startswith("val")]
    assert not set.union(*(hashes[name] for name in tested)) & set.union(*(hashes[name] for name in chosen_on))


def test_patches_are_grey_32_px_and_not_blank() -> None:
    for name, ood in digits.load().ood.items():
        if ood.role in ("far", "val-far"):
            assert 50 <= len(ood.items) <= digits.PATCHES_PER_SET, name
            patches = [decode(item.read(), name) for item in ood.items]
            assert all(patch.shape == (1, 32, 32) for patch in patches)
            assert all(patch.std() > 2 for patch in patches)
