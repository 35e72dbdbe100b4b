import torch
from torch.nn import functional

from pipeline.classifier.distillation import logit_distillation
from pipeline.classifier.exposure import energy_regularization, outlier_exposure
from pipeline.classifier.micl import PartnerBank
from pipeline.classifier.networks import Classifier
from pipeline.classifier.objective import Objective, Terms
from pipeline.training.loaders import Batch


def classifier(head: dict[str, object] | None = None) -> Classifier:
    """In eval mode, so that a second pass says the same."""
    torch.manual_seed(0)
    return Classifier("wrn-10-1", head or {"kind": "linear"}, list("abcd"), 8, 1, [0.5], [0.25]).eval()


def batch() -> Batch:
    torch.manual_seed(1)
    return Batch(torch.rand(10, 1, 8, 8), torch.tensor([0, 1, 2, 3, 0, 1, -1, -1, -1, -1]))


def terms(**content: object) -> Terms:
    return Terms.model_validate(content)


class Counted(torch.nn.Module):
    def __init__(self, model: Classifier):
        super().__init__()
        self.model, self.passes = model, 0

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.passes += 1
        return self.model(images)


def test_the_whole_loss_is_hendrycks_in_one_forward_pass() -> None:
    model = classifier()
    counted, (images, labels) = Counted(model), batch()
    found = Objective(terms(outlier_exposure={"weight": 0.5, "temperature": 1.0}), model.head)(counted, batch())
    assert counted.passes == 1
    logits = model(images)[0]
    known = functional.cross_entropy(logits[:6], labels[:6])
    unknown = -(logits[6:].mean(dim=1) - logits[6:].logsumexp(dim=1)).mean()  # OpenOOD's oe_trainer
    assert set(found) == {"cross_entropy", "accuracy", "outlier_exposure"} and not found["accuracy"].requires_grad
    torch.testing.assert_close(found["cross_entropy"] + found["outlier_exposure"], known + 0.5 * unknown)
    assert float(found["accuracy"]) == float((logits[:6].argmax(dim=1) == labels[:6]).float().mean())


def test_every_term_is_there_by_itself_with_its_weight() -> None:
    model, teacher = classifier(), classifier()
    with torch.no_grad():
        teacher.head.weight.mul_(2)
    bank = PartnerBank(torch.randn(20, 5), torch.arange(20)[:, None].repeat(1, 2) % 4, 4, torch.randn(20, 64))
    recipe = terms(
        outlier_exposure={"weight": 2.0, "temperature": 3.0},
        energy_regularization={"weight": 0.1, "margin_in": -9.0, "margin_out": -1.0},
        logit_distillation={"weight": 4.0, "temperature": 2.0},
        feature_distillation={"weight": 8.0},
        micl={"weight": 0.2, "estimator": "club", "fitting_steps": 1, "learning_rate": 1e-3},
    )
    found = Objective(recipe, model.head, teacher, bank)(model, batch())
    images, labels = batch()
    (logits, features), (wanted, seen) = model(images), teacher(images)
    expected = {
        "cross_entropy": functional.cross_entropy(logits[:6], labels[:6]),
        "outlier_exposure": 2 * outlier_exposure(logits[6:], 3.0),
        "energy_regularization": 0.1 * energy_regularization(logits, labels >= 0, -9.0, -1.0),
        "logit_distillation": 4 * logit_distillation(logits[:6], wanted[:6], 2.0),
        "feature_distillation": 8 * functional.mse_loss(features[:6], seen[:6]) / seen[:6].square().mean(),
    }
    assert set(found) == {*expected, "accuracy", "micl"}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    assert found["micl"].requires_grad


def test_distillation_costs_exactly_nothing_where_student_equals_teacher_whatever_the_head() -> None:
    for head in ({"kind": "linear"}, {"kind": "cosface", "scale": 16.0, "margin": 0.35}):
        recipe = terms(
            head=head, logit_distillation={"weight": 1.0, "temperature": 2.0}, feature_distillation={"weight": 1.0}
        )
        found = Objective(recipe, classifier(head).head, classifier(head))(classifier(head), batch())
        assert float(found["logit_distillation"]) == 0 and float(found["feature_distillation"]) == 0


def test_distillation_sees_id_images_alone_and_leaves_the_teacher_alone() -> None:
    model, teacher = classifier(), classifier({"kind": "linear"})
    with torch.no_grad():
        teacher.head.bias.add_(torch.arange(4.0))
    recipe = terms(logit_distillation={"weight": 1.0, "temperature": 2.0})
    images, labels = batch()
    other = torch.cat([images[:6], torch.rand(4, 1, 8, 8)])
    found = [
        Objective(recipe, model.head, teacher)(model, Batch(part, labels))["logit_distillation"]
        for part in (images, other)
    ]
    assert float(found[0].detach()) > 0
    torch.testing.assert_close(*found)
    found[0].backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_margin_is_in_the_cross_entropy_alone() -> None:
    head = {"kind": "cosface", "scale": 16.0, "margin": 0.35}
    model, (images, labels) = classifier(head), batch()
    found = Objective(terms(head=head, outlier_exposure={"weight": 1.0, "temperature": 1.0}), model.head)(
        model, batch()
    )
    logits = model(images)[0]
    shifted = logits[:6] - 16 * 0.35 * functional.one_hot(labels[:6], 4)
    torch.testing.assert_close(found["cross_entropy"], functional.cross_entropy(shifted, labels[:6]))
    torch.testing.assert_close(found["outlier_exposure"], outlier_exposure(logits[6:]))


def test_what_is_trained_beside_the_student_is_the_projector_alone() -> None:
    model, teacher = classifier(), classifier()
    recipe = terms(logit_distillation={"weight": 1.0, "temperature": 2.0}, feature_distillation={"weight": 1.0})
    objective = Objective(recipe, model.head, teacher)
    assert [name for name, _ in objective.named_parameters()] == ["learned.0.projector.weight"]
    assert not list(Objective(terms(), model.head).parameters())


def test_label_smoothing_and_class_weights_are_those_of_the_cross_entropy() -> None:
    model, weights = classifier(), torch.tensor([0.5, 1.0, 2.0, 4.0])
    logits, labels = model(batch().images)[0][:6], batch().labels[:6]
    log_p, target = logits.log_softmax(dim=1), 0.9 * functional.one_hot(labels, 4) + 0.1 / 4
    found = Objective(terms(label_smoothing=0.1), model.head)(model, batch())["cross_entropy"]
    torch.testing.assert_close(found, -(target * log_p).sum(dim=1).mean())
    found = Objective(terms(), model.head, class_weights=weights)(model, batch())["cross_entropy"]
    own = weights[labels]
    torch.testing.assert_close(found, -(own * log_p.gather(1, labels[:, None])[:, 0]).sum() / own.sum())
