import torch

from pipeline.training.augmentation import Photos, none

PIXELS = torch.randint(256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_photographs_are_changed_by_seed_and_step_alone_each_by_itself() -> None:
    augment, state = Photos(32), torch.get_rng_state()
    first = augment(PIXELS, 1, 5)
    assert torch.equal(torch.get_rng_state(), state)  # the training's own draws do not move
    torch.rand(3)
    assert torch.equal(augment(PIXELS, 1, 5), first)
    assert not torch.equal(augment(PIXELS, 1, 6), first) and not torch.equal(augment(PIXELS, 2, 5), first)
    same = augment(PIXELS[:1].repeat(6, 1, 1, 1), 1, 5)
    assert len({image.numpy().tobytes() for image in same}) == 6
    assert first.shape == PIXELS.shape and first.dtype == torch.float32 and first.min() >= 0 and first.max() <= 1


def test_features_are_left_as_they_are() -> None:
    features = torch.randn(4, 7)
    assert none(features, 0, 0) is features
