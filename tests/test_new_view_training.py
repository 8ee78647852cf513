"""Training of the networks of new views: the same goal as what is drawn, checkpoints, critics, drawn people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bodyfit.images.similarity import ssim
from bodyfit.novel_views.assemble import Layers, completed
from scripts.train import new_view
from scripts.train.new_views import losses
from scripts.train.new_views.adversarial import Critic
from scripts.train.new_views.losses import composite, view_loss
from scripts.train.new_views.networks import refinement_network
from scripts.train.new_views.people import draw_people
from scripts.train.new_views.samples import WINDOW, Photograph, Samples


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """Two drawn people."""
    folder = tmp_path_factory.mktemp("views")
    assert list(draw_people(np.zeros((1, 69)), 2, folder / "people", 3)) == [0, 1]
    assert list(draw_people(np.zeros((1, 69)), 2, folder / "people", 3)) == []  # they are there
    return folder


def test_samples_hold_a_person_and_the_truth(work, tmp_path):
    files = sorted((work / "people").glob("*.npz"))
    one = Photograph(files[0])
    samples = Samples(files, 0, tmp_path / "store")
    for a, b in zip(samples.view(4), samples.view(4), strict=True):
        assert np.array_equal(a, b)
        assert a.shape[1:] == WINDOW
    fresh, stored = one.view_sample(0), samples.whole_view(files[0], 0)
    for a, b in zip(fresh, stored, strict=True):  # what is stored is cut to the person, and rounded
        assert abs(a[3].sum() - b[3].sum()) < 0.01 * a[3].sum()
        assert abs(a[1].sum() - b[1].sum()) < 0.02 * a[1].sum()
    inputs, truth = fresh
    covered = np.maximum(inputs[3], inputs[9]) > 0.5
    assert (covered & (truth[3] > 0.5)).sum() > 0.75 * (truth[3] > 0.5).sum()
    seen_alike = np.abs(inputs[:3] - truth[:3])[:, (inputs[3] > 0.99) & (truth[3] > 0.99)]
    assert np.median(seen_alike) < 0.08  # splats are pixels of the person


def test_the_loss_is_of_what_will_be_drawn():
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.random((1, 16, 32, 32)).astype(np.float32))
    outputs = torch.from_numpy(0.1 * rng.standard_normal((1, 5, 32, 32)).astype(np.float32))
    outputs[:, 4] += 20  # inside, where the mask is 1
    inputs[:, [3, 9]] = 1  # what nothing covers is drawn from around
    inputs[:, :3] *= inputs[:, 3:4]
    inputs[:, 6:9] *= inputs[:, 9:10]
    picture, mask = composite(inputs, outputs)
    planes = inputs[0].permute(1, 2, 0).numpy()
    drawn = completed(Layers(planes[..., :6], planes[..., 6:11]), outputs[0].numpy())
    np.testing.assert_allclose(drawn[..., 3], mask[0, 0], atol=1e-5)
    np.testing.assert_allclose(drawn[..., :3], picture[0].clamp(0, 1).permute(1, 2, 0), atol=1e-5)


def test_losses_are_least_at_the_truth():
    inputs, goal = torch.zeros(2, 16, 32, 32), torch.zeros(2, 4, 32, 32)
    inputs[:, [6, 7, 8, 9]] = goal[:, :4] = 1.0
    inputs[:, 15] = 1.0  # the mask without the network
    inputs[:, 7] = goal[:, 1] = 0.5
    outputs = torch.zeros(2, 5, 32, 32)
    outputs[:, 4] = 12
    assert float(view_loss(inputs, outputs, goal)) < 1e-3
    outputs[:, 1] = 0.2
    assert float(view_loss(inputs, outputs, goal)) > 0.05


def test_structure_is_compared_as_scores_do():
    rng = np.random.default_rng(3)
    pair = [rng.integers(0, 255, (40, 32, 3)).astype(np.uint8) for _ in range(2)]
    pair[1] = (pair[0] // 2 + pair[1] // 2).astype(np.uint8)
    a, b = (torch.from_numpy(one.transpose(2, 0, 1)[None] / 255) for one in pair)
    assert float(losses.ssim(a, b)) == pytest.approx(ssim(*pair), abs=1e-5)


def test_networks_begin_with_what_there_is():
    x = torch.rand(1, 16, 64, 48)
    with torch.no_grad():
        out = refinement_network().eval()(x)
        assert out.shape == (1, 5, 64, 48)
        assert float(out.abs().max()) < 0.1


def test_a_critic_learns_to_tell_views_apart():
    torch.manual_seed(0)
    critic, inputs = Critic(), torch.zeros(4, 16, 64, 64)
    inputs[:, 9] = 1
    outputs, truth = torch.zeros(4, 5, 64, 64), torch.rand(4, 4, 64, 64)
    outputs[:, 4], truth[:, 3] = 12.0, 1.0
    outputs.requires_grad_()
    for _ in range(12):
        value = critic.loss(inputs, outputs, truth)
    value.backward()
    assert float(outputs.grad[:, :3].abs().max()) > 0
    network = critic.parts["critic"]
    scores = [
        float(network(torch.cat([picture, inputs[:, 9:10]], 1))[0][0].mean().detach())
        for picture in (truth[:, :3], torch.zeros(4, 3, 64, 64))
    ]
    assert scores[0] > scores[1] + 0.2


@pytest.mark.slow
def test_training_that_was_stopped_goes_on_to_the_same_networks(work, tmp_path, monkeypatch):
    networks: dict[str, dict[str, torch.Tensor]] = {}

    def exported(network: torch.nn.Module, path: Path) -> None:
        networks[f"{path.parent.name}/{path.name}"] = {k: v.clone() for k, v in network.state_dict().items()}

    def run(name: str) -> None:
        (tmp_path / name).mkdir(exist_ok=True)
        for folder in ("people", "views"):  # made once
            if not (tmp_path / name / folder).exists():
                (work / folder).mkdir(exist_ok=True)
                (tmp_path / name / folder).symlink_to(work / folder)
        options = ["--view-steps", "2", "--batch", "2", "--every", "1"]
        monkeypatch.setattr("sys.argv", ["new_view", str(tmp_path / name), *options])
        new_view.main()

    usual, count = new_view.view_score, [0]

    def stopped(*words: object) -> str:
        count[0] += 1
        if count[0] == 1:
            raise KeyboardInterrupt
        return ""

    monkeypatch.setattr(new_view, "export", exported)
    monkeypatch.setattr(new_view, "view_score", lambda *words: "")
    run("whole")
    monkeypatch.setattr(new_view, "view_score", stopped)
    with pytest.raises(KeyboardInterrupt):
        run("halves")
    run("halves")
    assert networks.keys() == {"whole/refine.onnx", "halves/refine.onnx"}
    for name, value in networks["whole/refine.onnx"].items():
        assert torch.allclose(value.float(), networks["halves/refine.onnx"][name].float(), atol=1e-5), name
    files = sorted((work / "people").glob("*.npz"))
    assert "dB" in usual(refinement_network().eval(), Samples(files, 0, work / "views"), files[:1])
