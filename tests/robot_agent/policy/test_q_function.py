"""The Q-function on the robot: what it predicts, and which releases it refuses to be."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from protocol.episode import GripperPose
from protocol.errors import CameraError, NonFiniteScoreError, RejectedReleaseError
from protocol.release import pack_release, policy_digest, unpack_release
from protocol.release_manifest import RefinedMap
from robot_agent.policy.q_function import QFunction
from tests.releases import (
    CALIBRATION,
    SIGNING_KEY,
    SIZE_PX,
    make_encode_graph,
    make_manifest,
    make_release,
    make_score_graph,
    refined_map,
)

POSE = GripperPose(x_m=0.03, y_m=0.0, z_m=0.05, yaw_rad=0.2)
IMAGE = np.full((SIZE_PX, SIZE_PX, 3), 100, np.uint8)


def load(data: bytes, calibration=CALIBRATION) -> QFunction:
    release = unpack_release(data, SIGNING_KEY.public_key())
    return QFunction(release, robot_id="robot-1", calibration=calibration)


def load_graphs(encode: bytes, score: bytes) -> QFunction:
    return load(pack_release(make_manifest(), encode, score, SIGNING_KEY))


def edited(model: bytes, edit) -> bytes:
    proto = onnx.load_from_string(model)
    edit(proto)
    return proto.SerializeToString()


def expected(bias: float, corner: float, actions: np.ndarray) -> np.ndarray:
    logit = bias + corner + POSE.x_m + actions.sum(axis=1) + 200 * 1e-4
    return 1 / (1 + np.exp(-logit))


def test_it_predicts_what_the_graphs_compute():
    q_function = load(make_release(bias=0.3))
    actions = np.random.default_rng(1).normal(0, 0.1, (5, 5)).astype(np.float32)

    success = q_function.score(q_function.encode(IMAGE, IMAGE), POSE, actions)

    corner = float(CALIBRATION.matrix[2, 3])
    np.testing.assert_allclose(success, expected(0.3, corner, actions), atol=1e-6)


def test_the_refined_map_of_this_robot_is_used_if_it_was_refined_from_its_calibration():
    better = refined_map()
    refinement = RefinedMap(
        calibration_digest=CALIBRATION.digest(), matrix=better.matrix.ravel().tolist()
    )
    data = make_release(hand_eye_maps={"robot-1": refinement})
    actions = np.zeros((1, 5), np.float32)

    refined = load(data)
    success = refined.score(refined.encode(IMAGE, IMAGE), POSE, actions)

    assert refined.hand_eye_map.digest() == better.digest()
    np.testing.assert_allclose(
        success, expected(0.1, float(better.matrix[2, 3]), actions), atol=1e-6
    )
    assert refined.policy.digest == policy_digest(refined.release, better)
    assert refined.policy.release_version == 1


def test_the_calibration_of_the_joints_is_part_of_the_policys_identity():
    release = unpack_release(make_release(), SIGNING_KEY.public_key())
    named = QFunction(
        release, robot_id="robot-1", calibration=CALIBRATION, joint_calibration="ab" * 32
    )
    assert named.policy.digest == policy_digest(release, CALIBRATION, "ab" * 32)
    assert named.policy.digest != load(make_release()).policy.digest


@pytest.mark.parametrize("reason", ["calibrated anew", "another robot"])
def test_a_refined_map_that_is_not_for_this_robot_as_calibrated_is_left_alone(reason: str):
    refinement = RefinedMap(
        calibration_digest=CALIBRATION.digest(), matrix=refined_map().matrix.ravel().tolist()
    )
    robot = "robot-1" if reason == "calibrated anew" else "robot-2"
    own = refined_map(shift=0.01) if reason == "calibrated anew" else CALIBRATION

    q_function = load(make_release(hand_eye_maps={robot: refinement}), calibration=own)

    assert q_function.hand_eye_map.digest() == own.digest()
    assert q_function.refined is None


def test_an_image_of_another_size_is_a_camera_error_that_names_both_sizes():
    q_function = load(make_release())
    with pytest.raises(CameraError, match=r"uint8\[8, 9, 3\].*release 1 needs uint8\[8, 8, 3\]"):
        q_function.encode(IMAGE, np.zeros((8, 9, 3), np.uint8))


def test_a_score_that_is_not_finite_is_an_error_of_its_own():
    q_function = load(make_release())
    actions = np.zeros((3, 5), np.float32)
    actions[1, 0] = np.nan
    with pytest.raises(NonFiniteScoreError, match="1 of 3"):
        q_function.score(q_function.encode(IMAGE, IMAGE), POSE, actions)


def test_weights_that_are_nan_are_refused_on_trial():
    with pytest.raises(RejectedReleaseError, match=r"refused on trial.*NaN"):
        load(make_release(bias=float("nan")))


def test_scores_that_are_not_probabilities_are_refused_on_trial():
    def square(proto: onnx.ModelProto) -> None:
        proto.graph.node[-1].op_type = "Neg"

    with pytest.raises(RejectedReleaseError, match="expected"):
        load_graphs(make_encode_graph(), edited(make_score_graph(), square))


def test_a_graph_that_returns_nothing_is_refused_on_trial():
    score = helper.make_graph(
        [
            helper.make_node("Slice", ["actions", "zero", "zero"], ["none"]),
            helper.make_node("ReduceMean", ["none", "one"], ["success"], keepdims=0),
        ],
        "empty",
        [helper.make_tensor_value_info("actions", TensorProto.FLOAT, ["candidates", 5])],
        [helper.make_tensor_value_info("success", TensorProto.FLOAT, ["scores"])],
        [
            onnx.numpy_helper.from_array(np.array([n]), name)
            for n, name in enumerate(("zero", "one"))
        ],
    )
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(score, opset_imports=opsets, ir_version=10)
    with pytest.raises(RejectedReleaseError, match=r"gave shape \[0\]; expected \[1\]"):
        load_graphs(make_encode_graph(), model.SerializeToString())


def test_graphs_for_another_image_size_than_the_manifest_says_are_refused():
    with pytest.raises(RejectedReleaseError, match="cannot be run"):
        load_graphs(make_encode_graph(size_px=9), make_score_graph())


def test_a_graph_may_lack_inputs_that_its_network_does_not_read():
    score = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["actions", "one"], ["mean"], keepdims=0),
            helper.make_node("Sigmoid", ["mean"], ["success"]),
        ],
        "blind",
        [helper.make_tensor_value_info("actions", TensorProto.FLOAT, ["candidates", 5])],
        [helper.make_tensor_value_info("success", TensorProto.FLOAT, ["candidates"])],
        [onnx.numpy_helper.from_array(np.array([1]), "one")],
    )
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(score, opset_imports=opsets, ir_version=10)

    q_function = load_graphs(make_encode_graph(), model.SerializeToString())

    features = q_function.encode(IMAGE, IMAGE)
    assert q_function.score(features, POSE, np.zeros((2, 5), np.float32)).tolist() == [0.5, 0.5]


def _rename_input(proto: onnx.ModelProto) -> None:
    proto.graph.input[1].name = "posture"
    proto.graph.node[1].input[0] = "posture"


def _rename_output(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].name = proto.graph.node[-1].output[0] = "chance"


def _other_type(proto: onnx.ModelProto) -> None:
    proto.graph.input[1].type.tensor_type.elem_type = TensorProto.DOUBLE
    proto.graph.node.insert(0, helper.make_node("Cast", ["pose"], ["pose32"], to=TensorProto.FLOAT))
    proto.graph.node[2].input[0] = "pose32"


def _foreign_operator(proto: onnx.ModelProto) -> None:
    proto.graph.node[-1].domain = "com.microsoft"
    proto.graph.node[-1].op_type = "QuickGelu"
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _foreign_operator_in_a_branch(proto: onnx.ModelProto) -> None:
    branch = helper.make_graph([proto.graph.node[-1]], "branch", [], [])
    branch.node[0].domain = "com.microsoft"
    proto.graph.node.append(helper.make_node("If", ["logit"], ["x"], then_branch=branch))


def _external_weights(proto: onnx.ModelProto) -> None:
    tensor = proto.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def _own_function(proto: onnx.ModelProto) -> None:
    proto.functions.add(name="f", domain="mine")


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (_rename_input, "posture"),
        (_rename_output, "chance"),
        (_other_type, "tensor\\(double\\)"),
        (_foreign_operator, "'QuickGelu' is of domain 'com.microsoft'"),
        (_foreign_operator_in_a_branch, "'Sigmoid' is of domain 'com.microsoft'"),
        (_external_weights, "another file"),
        (_own_function, "functions"),
    ],
)
def test_a_graph_that_is_not_as_agreed_is_refused(edit, reason: str):
    with pytest.raises(RejectedReleaseError, match=f"score graph: .*{reason}"):
        load_graphs(make_encode_graph(), edited(make_score_graph(), edit))


def test_every_truncation_of_a_graph_is_refused_and_none_raises_anything_else():
    score = make_score_graph()
    for length in range(1, len(score), 7):
        with pytest.raises(RejectedReleaseError):
            load_graphs(make_encode_graph(), score[:length])


def test_noise_in_place_of_a_graph_is_refused():
    rng = np.random.default_rng(3)
    for size in (1, 10, 1000):
        with pytest.raises(RejectedReleaseError):
            load_graphs(make_encode_graph(), rng.bytes(size))


def test_a_graph_whose_names_are_no_text_is_refused():
    score = make_score_graph()
    for name in (b"Sigmoid", b"success", b"pose"):
        assert name in score
        with pytest.raises(RejectedReleaseError):
            load_graphs(make_encode_graph(), score.replace(name, b"\xff" + name[1:]))
