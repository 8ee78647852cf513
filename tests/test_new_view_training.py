"""Training of the networks of new views: the same goal as what is drawn, checkpoints, critics, drawn people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bodyfit.novel_views.assemble import Layers, completed
from scripts.train import new_view
from scripts.train.new_views.adversarial import Critic
from scripts.train.new_views.losses import composite, depth_loss, view_loss
from scripts.train.new_views.networks import depth_network, refinement_network
from scripts.train.new_views.people import NEW_CLOTHES, draw_people, outfits_without
from scripts.train.new_views.samples import WINDOW, Photograph, Samples


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """Two drawn people."""
    folder = tmp_path_factory.mktemp("views")
    assert list(draw_people(np.zeros((1, 69)), 2, folder / "people", 3)) == [0, 1]
    assert list(draw_people(np.zeros((1, 69)), 2, folder / "people", 3)) == []  # they are there
    return folder


def test_nobody_wears_new_clothes_in_training():
    for outfit in outfits_without(40, 5):
        assert not {name for _, name in outfit.pieces()} & set(NEW_CLOTHES)


def test_samples_hold_a_person_and_the_truth(work):
    files = sorted((work / "people").glob("*.npz"))
    one = Photograph(files[0])
    inputs, truth = one.depth_sample()
    error = np.abs(truth)[np.isfinite(truth)]
    assert np.isfinite(truth[0]).sum() > 0.9 * one.square.mask.sum()
    assert np.median(error) < 0.6  # the body is about where its clothes are
    samples = Samples(files, 0)
    for first, second in ((samples.depth(4), samples.depth(4)), (samples.view(4), samples.view(4))):
        for a, b in zip(first, second, strict=True):
            assert np.array_equal(a, b, equal_nan=True)
            assert a.shape[1:] == WINDOW
    inputs, truth = one.view_sample(0, one.lifted(None))
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
    truth = torch.full((1, 1, 8, 8), float("nan"))
    truth[..., 2:6, 2:6] = torch.rand(4, 4)
    right = truth.nan_to_num(7.0)  # what is not known counts nothing
    assert float(depth_loss(right, truth)) == 0
    assert float(depth_loss(right + 0.1, truth)) == pytest.approx(0.1, abs=1e-5)
    inputs, goal = torch.zeros(2, 16, 32, 32), torch.zeros(2, 4, 32, 32)
    inputs[:, [6, 7, 8, 9]] = goal[:, :4] = 1.0
    inputs[:, 7] = goal[:, 1] = 0.5
    outputs = torch.zeros(2, 5, 32, 32)
    outputs[:, 4] = 12
    assert float(view_loss(inputs, outputs, goal)) < 1e-3
    outputs[:, 1] = 0.2
    assert float(view_loss(inputs, outputs, goal)) > 0.05


def test_networks_begin_with_what_there_is():
    x = torch.rand(1, 16, 64, 48)
    with torch.no_grad():
        out = refinement_network().eval()(x)
        assert out.shape == (1, 5, 64, 48)
        assert float(out[:, :3].abs().max()) < 0.2
        assert float((out[:, 3] - 2).abs().max()) < 0.2  # the splat before the avatar
        assert depth_network().eval()(torch.rand(1, 10, 64, 48)).shape == (1, 1, 64, 48)


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
        float(network(torch.cat([picture, inputs[:, 11:12]], 1))[0][0].mean().detach())
        for picture in (truth[:, :3], torch.zeros(4, 3, 64, 64))
    ]
    assert scores[0] > scores[1] + 0.2


@pytest.mark.slow
def test_training_that_was_stopped_goes_on_to_the_same_networks(work, tmp_path, monkeypatch):
    networks: dict[str, dict[str, torch.Tensor]] = {}

    def exported(network: torch.nn.Module, path: Path, channels: int) -> None:
        networks[f"{path.parent.name}/{path.name}"] = {k: v.clone() for k, v in network.state_dict().items()}

    def run(name: str) -> None:
        (tmp_path / name).mkdir(exist_ok=True)
        if not (tmp_path / name / "people").exists():
            (tmp_path / name / "people").symlink_to(work / "people")
        options = ["--depth-steps", "2", "--view-steps", "2", "--batch", "2", "--every", "1"]
        monkeypatch.setattr("sys.argv", ["new_view", str(tmp_path / name), *options])
        new_view.main()

    usual, count = new_view.view_score, [0]

    def stopped(*words: object) -> str:
        count[0] += 1
        if count[0] == 1:
            raise KeyboardInterrupt
        return ""

    monkeypatch.setattr(new_view, "export", exported)
    monkeypatch.setattr(new_view, "depth_score", lambda *words: "")
    monkeypatch.setattr(new_view, "view_score", lambda *words: "")
    run("whole")
    monkeypatch.setattr(new_view, "view_score", stopped)
    with pytest.raises(KeyboardInterrupt):
        run("halves")
    run("halves")
    assert networks.keys() >= {"whole/depth.onnx", "whole/refine.onnx", "halves/refine.onnx"}
    for name, value in networks["whole/refine.onnx"].items():
        assert torch.allclose(value.float(), networks["halves/refine.onnx"][name].float(), atol=1e-5), name
    monkeypatch.setattr(new_view, "view_score", usual)
    assert "dB" in new_view.view_score(
        refinement_network().eval(), [work / "people" / "00000.npz"], {"00000.npz": np.zeros((256, 256))}
    )
