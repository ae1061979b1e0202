"""The two networks: what they look at, and that both graphs compute what training computes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from learner.networks import (
    NETWORKS,
    GraspNetwork,
    Levine2016Network,
    PatchNetwork,
    build_network,
)
from learner.networks.base import normalised_images
from learner.networks.patch import WAY_SCALES_M, Variation, conditions
from learner.networks.patch_view import (
    HIGHEST_PLANE_M,
    final_pose,
    line_of_sight,
    patch_coordinates,
)
from protocol.hand_eye import HandEyeMap, pinhole_map

SIDE_PX = 64
LOOKING_DOWN = pinhole_map(
    position_m=(-0.34, -0.10, 0.46), look_at_m=(0.0, 0.0, 0.028), vertical_fov_deg=31.0
)
ELSEWHERE = pinhole_map(
    position_m=(0.30, -0.15, 0.50), look_at_m=(0.01, 0.0, 0.0), vertical_fov_deg=34.0
)


def make(name: str, seed: int = 0) -> GraspNetwork:
    torch.manual_seed(seed)
    network = build_network(name, height_px=SIDE_PX, width_px=SIDE_PX)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # statistics of the one batch below
    pictures = smooth_pictures(16).unflatten(0, (2, 8))
    with torch.no_grad():
        if isinstance(network, Levine2016Network):
            # Untrained it hardly minds the command, and what it says hardly differs.
            network.command[2].weight.mul_(30)
            network.out[4].weight.mul_(100)
        network(*pictures, torch.rand(8, 4) / 10, map_tensor(LOOKING_DOWN, 8), random_actions(8))
    return network.eval()


def smooth_pictures(count: int) -> Tensor:
    """Return uint8[count, H, W, 3] without a sharp edge."""
    coarse = torch.rand(count, 3, 6, 6) * 255
    size = (SIDE_PX, SIDE_PX)
    fine = functional.interpolate(coarse, size, mode="bicubic", align_corners=True)
    return fine.clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8)


def random_actions(count: int) -> Tensor:
    turn = torch.rand(count) * 3 - 1.5
    shift = (torch.rand(count, 3) - 0.5) * torch.tensor([0.15, 0.10, 0.04])
    return torch.cat([shift, turn.sin()[:, None], turn.cos()[:, None]], dim=1)


def map_tensor(hand_eye_map: HandEyeMap, count: int = 1) -> Tensor:
    return torch.from_numpy(hand_eye_map.matrix).expand(count, 3, 4)


@pytest.mark.parametrize("hand_eye_map", [LOOKING_DOWN, ELSEWHERE], ids=["front", "behind"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_two_graphs_together_compute_what_training_computes(
    name: str, hand_eye_map: HandEyeMap
):
    network = make(name, seed=1)
    first_image, image = smooth_pictures(2)[:, None]
    pose, actions = torch.tensor([0.01, -0.02, 0.03, 0.4]), random_actions(32)
    with torch.inference_mode():
        features = network.encode_graph()(first_image, image)
        scored = network.score_graph()(features, pose, map_tensor(hand_eye_map)[0], actions)
        logits = network(
            first_image.expand(32, -1, -1, -1),
            image.expand(32, -1, -1, -1),
            pose.expand(32, 4),
            map_tensor(hand_eye_map, 32),
            actions,
        )
    # The robot's patch takes the nearest of a few interpolated points instead of all.
    assert float((scored - logits.sigmoid()).abs().max()) < 4e-3
    assert float(scored.std()) > 1e-4


@pytest.mark.parametrize("hand_eye_map", [LOOKING_DOWN, ELSEWHERE], ids=["front", "behind"])
@pytest.mark.parametrize("yaw", [0.0, 0.7, -1.5])
def test_the_patch_lies_where_the_hand_eye_map_says(hand_eye_map: HandEyeMap, yaw: float):
    along = np.array([0.0, 0.045, 0.0, -0.03], np.float32)
    across = np.array([0.0, 0.0, 0.06, 0.02], np.float32)
    grid = torch.from_numpy(np.stack([along, across, np.ones(4, np.float32)]))[None]

    found = patch_coordinates(grid, target(0.04, -0.03, 0.012, yaw), map_tensor(hand_eye_map))

    cos, sin = math.cos(yaw), math.sin(yaw)
    points = np.stack(
        [
            0.04 + cos * along - sin * across,
            -0.03 + sin * along + cos * across,
            np.full(4, 0.012),
        ],
        axis=1,
    )
    np.testing.assert_allclose(found[0].numpy().T, hand_eye_map.project(points), atol=1e-5)


def test_a_patch_higher_than_the_objects_lies_on_the_highest_plane():
    middle = torch.tensor([[[0.0], [0.0], [1.0]]])
    high = patch_coordinates(middle, target(0.02, 0.01, 0.14, 0.0), map_tensor(ELSEWHERE))
    plane = ELSEWHERE.project(np.array([[0.02, 0.01, HIGHEST_PLANE_M]]))
    np.testing.assert_allclose(high[0].numpy().T, plane, atol=1e-5)


def test_an_action_turns_the_wrist_from_where_it_is():
    pose = torch.tensor([[0.01, -0.02, 0.03, 2.9]])
    action = torch.tensor([[0.02, 0.01, -0.02, math.sin(0.5), math.cos(0.5)]])
    expected = target(0.03, -0.01, 0.01, 3.4)
    torch.testing.assert_close(final_pose(pose, action), expected, atol=1e-6, rtol=0)


def target(x: float, y: float, z: float, yaw: float) -> Tensor:
    return torch.tensor([[x, y, z, math.sin(yaw), math.cos(yaw)]])


def picture_with_dot(point_m: tuple[float, float, float], hand_eye_map: HandEyeMap) -> Tensor:
    """Return uint8[1, H, W, 3], black but for a soft bright dot where the point appears."""
    u, v = hand_eye_map.project(np.array([point_m]))[0]
    column, row = (u + 1) * SIDE_PX / 2 - 0.5, (v + 1) * SIDE_PX / 2 - 0.5
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX]
    light = 255 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 2)
    return torch.from_numpy(np.repeat(light[None, :, :, None], 3, axis=3).astype(np.uint8))


class Spy(torch.nn.Module):
    """Stands in for the head; keeps the patch and the conditions it is shown."""

    def forward(self, patch_BCRS: Tensor, condition_BK: Tensor) -> Tensor:
        self.patch_BCRS, self.condition_BK = patch_BCRS, condition_BK
        return patch_BCRS.mean(dim=(1, 2, 3))


def variation(
    mirror: tuple[float, float] = (1.0, 1.0), scale: float = 1.0, gain: float = 1.0
) -> Variation:
    return Variation(
        mirror_B2=torch.tensor([mirror]),
        scale_B1=torch.tensor([[scale]]),
        gain_BC11=torch.full((1, 6, 1, 1), gain),
        brightness_B111=torch.full((1, 1, 1, 1), gain - 1),
    )


def bright_spot_m(
    picture: Tensor,
    pose: list[float],
    action: list[float],
    hand_eye_map: HandEyeMap,
    varied: Variation | None = None,
) -> tuple[float, float]:
    """Return where in the patch the light's centre lies: along and across the fingers, metres."""
    network = make("patch")
    assert isinstance(network, PatchNetwork)
    spy = Spy()
    network.head = spy
    network(
        torch.zeros_like(picture),
        picture,
        torch.tensor([pose]),
        map_tensor(hand_eye_map),
        torch.tensor([action]),
        varied,
    )
    light = spy.patch_BCRS[0, 3].flatten() + 1
    along, across, _ = network.grid_3P @ light / light.sum()
    return float(along), float(across)


@pytest.mark.parametrize("hand_eye_map", [LOOKING_DOWN, ELSEWHERE], ids=["front", "behind"])
def test_what_lies_under_the_closing_fingers_appears_in_the_middle_of_the_patch(
    hand_eye_map: HandEyeMap,
):
    dot = (0.03, 0.02, 0.01)
    pose, action = [0.0, -0.02, 0.11, 0.2], [0.03, 0.04, -0.10, math.sin(0.5), math.cos(0.5)]
    along, across = bright_spot_m(picture_with_dot(dot, hand_eye_map), pose, action, hand_eye_map)
    assert abs(along) < 0.003
    assert abs(across) < 0.003


def test_the_patch_moves_with_the_command_and_turns_with_the_wrist():
    picture = picture_with_dot((0.03, 0.02, 0.01), LOOKING_DOWN)
    pose = [0.03, 0.02, 0.01, 0.0]
    # The hand goes 2 cm back in x: the dot lies 2 cm ahead of it, along the fingers.
    along, across = bright_spot_m(picture, pose, [-0.02, 0, 0, 0, 1], LOOKING_DOWN)
    np.testing.assert_allclose([along, across], [0.02, 0.0], atol=0.003)
    # After a quarter turn the same dot lies in the closing direction, on the other side.
    along, across = bright_spot_m(picture, pose, [-0.02, 0, 0, 1, 0], LOOKING_DOWN)
    np.testing.assert_allclose([along, across], [0.0, -0.02], atol=0.003)


def test_a_map_that_is_a_centimetre_off_shows_the_dot_a_centimetre_off():
    picture = picture_with_dot((0.03, 0.02, 0.01), LOOKING_DOWN)
    shift = np.eye(4, dtype=np.float32)
    shift[1, 3] = 0.01
    wrong = HandEyeMap(matrix=LOOKING_DOWN.matrix @ shift)
    along, across = bright_spot_m(picture, [0.03, 0.02, 0.01, 0.0], [0, 0, 0, 0, 1], wrong)
    np.testing.assert_allclose([along, across], [0.0, -0.01], atol=0.003)


def test_the_line_of_sight_points_from_the_target_to_the_camera():
    camera = np.array([-0.34, -0.10, 0.46])
    ray = camera - np.array([0.04, -0.03, 0.012])
    expected = ray[:2] / ray[2]
    here = map_tensor(LOOKING_DOWN)
    found = line_of_sight(target(0.04, -0.03, 0.012, 0.0), here)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=2e-3)
    # Seen from a hand that is turned by a quarter, it comes from another side.
    found = line_of_sight(target(0.04, -0.03, 0.012, math.pi / 2), here)[0].numpy()
    np.testing.assert_allclose(found, [expected[1], -expected[0]], atol=2e-3)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0]], [3.0, 0.0]),  # at the grasp's height
        ([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], [0.0, 0.0]),  # in the very place of the grasp
        ([[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], [0.0, 3.0]),  # infinitely far aside
        ([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], [0.0, 0.0]),
    ],
)
def test_no_camera_makes_the_line_of_sight_or_its_gradient_infinite(
    rows: list[list[float]], expected: list[float]
):
    grasp = target(0.0, 0.0, 0.0, 0.0)
    motion = torch.eye(4).requires_grad_()
    found = line_of_sight(grasp, torch.tensor([rows], dtype=torch.float32) @ motion)
    assert found[0].abs().tolist() == expected
    (gradient,) = torch.autograd.grad(found.sum(), motion)
    assert torch.isfinite(gradient).all()


def test_half_a_turn_of_the_wrist_is_the_patch_mirrored_both_ways():
    network = make("patch", seed=2)
    first_image, image = smooth_pictures(2)[:, None]
    pose, here = torch.tensor([[0.01, -0.02, 0.03, 0.4]]), map_tensor(LOOKING_DOWN)
    forward = torch.tensor([[0.02, 0.01, -0.02, 0.0, 1.0]])
    backward = torch.tensor([[0.02, 0.01, -0.02, 0.0, -1.0]])
    with torch.inference_mode():
        turned = network(first_image, image, pose, here, backward)
        mirrored = network(first_image, image, pose, here, forward, variation((-1.0, -1.0)))
        plain = network(first_image, image, pose, here, forward)
    torch.testing.assert_close(turned, mirrored, atol=1e-4, rtol=0)
    assert abs(float(turned - plain)) > 1e-5


def shown(action: list[float], varied: Variation | None = None) -> tuple[Tensor, Tensor]:
    """Return the patch and the conditions of one motion over pictures that are always the same."""
    network = make("patch")
    assert isinstance(network, PatchNetwork)
    spy = Spy()
    network.head = spy
    torch.manual_seed(5)
    first_image, image = smooth_pictures(2)[:, None]
    pose = torch.tensor([[0.01, -0.02, 0.03, 0.4]])
    network(first_image, image, pose, map_tensor(LOOKING_DOWN), torch.tensor([action]), varied)
    return spy.patch_BCRS, spy.condition_BK


ACTION = [0.006, 0.003, -0.02, 0.2, 0.98]


@pytest.mark.parametrize("mirror", [(1.0, -1.0), (-1.0, 1.0)])
def test_mirroring_flips_the_patch_and_what_points_sideways(mirror: tuple[float, float]):
    patch, condition = shown(ACTION)
    mirrored, mirrored_condition = shown(ACTION, variation(mirror))

    flipped = [axis for axis, sign in enumerate(mirror, start=2) if sign < 0]
    torch.testing.assert_close(mirrored, patch.flip(flipped), atol=1e-4, rtol=0)
    x, y = mirror
    # Three of height, the line of sight, the lengths of the way to go.
    signs = torch.tensor([1, 1, 1, x, y, 1, 1, 1, 1, 1, 1])
    torch.testing.assert_close(mirrored_condition, condition * signs)


def test_a_patch_lies_where_it_lies_also_in_bfloat16():
    patch, _ = shown(ACTION)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        in_bfloat16, _ = shown(ACTION)
    torch.testing.assert_close(in_bfloat16, patch, atol=0, rtol=0)


def test_training_varies_size_and_light_of_the_patch():
    picture = picture_with_dot((0.03, 0.02, 0.01), LOOKING_DOWN)
    pose, back = [0.03, 0.02, 0.01, 0.0], [-0.02, 0.0, 0.0, 0.0, 1.0]
    along, _ = bright_spot_m(picture, pose, back, LOOKING_DOWN, variation(scale=0.8))
    assert along == pytest.approx(0.02 / 0.8, abs=0.003)

    patch, condition = shown(ACTION)
    brighter, same_condition = shown(ACTION, variation(gain=1.2))
    torch.testing.assert_close(brighter, 1.2 * patch + 0.2)
    assert torch.equal(same_condition, condition)


def test_variations_differ_from_patch_to_patch_about_no_variation():
    drawn = Variation.draw(500, np.random.default_rng(0))
    assert set(drawn.mirror_B2.unique().tolist()) == {-1.0, 1.0}
    for values, mean in (
        (drawn.mirror_B2, 0.0),
        (drawn.scale_B1, 1.0),
        (drawn.gain_BC11, 1.0),
        (drawn.brightness_B111, 0.0),
    ):
        assert float(values.mean()) == pytest.approx(mean, abs=0.1)
        assert float(values.std()) > 0.02
    torch.testing.assert_close(drawn.gain_BC11[:, :3], drawn.gain_BC11[:, 3:])


def test_a_blocked_descent_shows_although_the_target_is_the_same():
    low = target(0.01, -0.02, 0.002, 0.0)
    there = conditions(low, torch.tensor([[0.0, 0, 0, 0, 1]]), map_tensor(LOOKING_DOWN))
    blocked = conditions(low, torch.tensor([[0.0, 0, -0.012, 0, 1]]), map_tensor(LOOKING_DOWN))
    difference = (blocked - there)[0]
    # Behind three of height and two of the line of sight come three of the way down.
    expected = [math.tanh(-0.012 / scale) for scale in WAY_SCALES_M]
    assert difference[5:8].tolist() == pytest.approx(expected, abs=1e-6)
    assert float(difference.abs().sum()) == pytest.approx(-sum(expected), abs=1e-5)


def test_levine2016_sees_neither_the_absolute_pose_nor_the_map():
    network = make("levine2016", seed=1)
    first_image, image = smooth_pictures(2)[:, None]
    action = torch.tensor([[0.02, 0.01, -0.02, 0.2, 0.98]])
    with torch.inference_mode():
        one = network(
            first_image,
            image,
            torch.tensor([[0.0, 0.0, 0.1, 0.0]]),
            map_tensor(LOOKING_DOWN),
            action,
        )
        other = network(
            first_image,
            image,
            torch.tensor([[0.1, 0.05, 0.0, 1.0]]),
            map_tensor(ELSEWHERE),
            action,
        )
        turned = network(
            first_image,
            image,
            torch.tensor([[0.0, 0.0, 0.1, 0.0]]),
            map_tensor(LOOKING_DOWN),
            -action,
        )
    assert torch.equal(one, other)
    assert not torch.equal(one, turned)


def test_pictures_become_six_channels_from_minus_one_to_one():
    first_image = torch.zeros(2, 4, 5, 3, dtype=torch.uint8)
    image = torch.full((2, 4, 5, 3), 255, dtype=torch.uint8)
    both = normalised_images(first_image, image)
    assert tuple(both.shape) == (2, 6, 4, 5)
    assert (both[:, :3] == -1).all()
    assert (both[:, 3:] == 1).all()


@pytest.mark.parametrize("size", [(48, 64), (64, 48)])
@pytest.mark.parametrize("name", NETWORKS)
def test_pictures_need_not_be_square(name: str, size: tuple[int, int]):
    height_px, width_px = size
    network = build_network(name, height_px=height_px, width_px=width_px).eval()
    inputs = network.example_inputs(candidates=3)
    with torch.inference_mode():
        features = network.encode_graph()(inputs["first_image"], inputs["image"])
        names = ("pose", "hand_eye_map", "actions")
        success = network.score_graph()(features, *(inputs[name] for name in names))
    assert tuple(success.shape) == (3,)
    assert ((success > 0) & (success < 1)).all()
