"""mclip doctor: what is wrong is found, named, and met with a command; nothing else is disturbed by it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import mclip.doctor
import mclip.doctor.probe
from mclip.body.model import load_body
from mclip.doctor import ERROR, OK, WARNING, Finding, Places, assets, machine, packages
from mclip.doctor.devices import providers
from mclip.doctor.graph import square
from mclip.doctor.probe import probe
from mclip.pack import Pack
from mclip.runtime.driver import has_nvidia_driver
from tests.amass import write_amass_tree, write_babel
from tests.commands import runner
from tests.test_pack import flip

BLOCKED = ("torch", "av", "h5py", "pyrender", "smplx")
# Blocks packages as if they were not installed, and any use of a network.
SCRIPT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def no_network(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise RuntimeError(f"{event} {arguments}")

BLOCKED = %r
sys.meta_path.insert(0, Blocked())
sys.addaudithook(no_network)
from mclip.cli import main
main()
"""


def run_blocked(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT % (BLOCKED,), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


def named(findings: list[Finding], name: str) -> list[Finding]:
    return [finding for finding in findings if finding.name == name]


def test_without_the_extras_the_doctor_says_what_is_missing_and_ends_well(tmp_path: Path) -> None:
    done = run_blocked("doctor", "--json", cwd=tmp_path)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    findings = [Finding(**each) for each in found["findings"]]
    errors = [finding for finding in findings if finding.status == ERROR]
    assert (done.returncode, errors) == (0, [])
    assert found["error"] == 0
    assert found["warning"] == sum(finding.status == WARNING for finding in findings)
    for name, text, step in (
        ("extra train", "torch is missing", 'pip install "mclip[train]"'),
        ("extra mp4", "av is missing", 'pip install "mclip[mp4]"'),
        ("film", ".mp4 cannot be written", 'pip install "mclip[mp4]"'),
        ("opengl", "pyrender is not installed", 'pip install "mclip[train]"'),
        ("torch", "not installed", 'pip install "mclip[train]"'),
    ):
        (finding,) = named(findings, name)
        assert (finding.status, finding.step) == (WARNING, step)
        assert text in finding.text
    for name in ("python", "packages", "onnxruntime", "cpu", "mini pack", "body", "command line"):
        assert named(findings, name)[0].status == OK, named(findings, name)
    for finding in findings:
        assert finding.status == OK or finding.step
        for line in finding.lines():
            # Paths are not broken.
            assert len(line) <= 80 or len(line.split()[-1]) > 50, line
    assert list(tmp_path.iterdir()) == []


def test_a_check_that_fails_is_a_finding_and_the_others_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_thing(_: Places) -> list[Finding]:
        raise ValueError("surprise")

    def lost_package(_: Places) -> list[Finding]:
        raise ModuleNotFoundError("No module named 'x'", name="x")

    monkeypatch.setattr(mclip.doctor, "CHECKS", (broken_thing, machine.memory, lost_package))
    first, *_, last = mclip.doctor.examine(Places())
    assert (first.name, first.status) == ("broken thing", ERROR)
    assert "ValueError: surprise" in first.text
    assert "package x is missing" in last.text


def test_the_tiny_graph_is_a_valid_model_that_multiplies() -> None:
    onnx.checker.check_model(onnx.load_from_string(square()), full_check=True)
    x = np.array([[1.0, 2.0], [3.0, 5.0]], np.float32)
    session = onnxruntime.InferenceSession(square(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], x @ x)


def test_providers_are_run_and_not_believed() -> None:
    assert probe("provider", "CPUExecutionProvider") == {}
    listed = onnxruntime.get_available_providers()
    found = providers(Places())
    assert len(found) >= len(listed)
    (cpu,) = named(found, "cpu")
    assert cpu.status == OK
    (cuda,) = named(found, "cuda")
    if not has_nvidia_driver():
        assert "no NVIDIA driver" in cuda.text
    if "CUDAExecutionProvider" in listed and not has_nvidia_driver():
        assert "error" in probe("provider", "CUDAExecutionProvider")


def test_the_library_that_a_provider_misses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # What onnxruntime 1.31 prints on Linux, and on Windows.
    for said, reason in (
        (
            "Failed to load library x/libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open "
            "shared object file\nFailed to create CUDAExecutionProvider. Require cuDNN 9.* and CUDA 13.*. Please",
            "libcublasLt.so.13 is missing, this onnxruntime needs cuDNN 9.* and CUDA 13.*",
        ),
        (
            'Error loading "x.dll" which depends on "cublasLt64_12.dll" which is missing.',
            "cublasLt64_12.dll is missing",
        ),
        ("nothing that is known", "fell back"),
    ):
        call = f'import sys; sys.stderr.write({said!r}); print(\'{{{{"error": "fell back"}}}}\')'
        monkeypatch.setattr(mclip.doctor.probe, "_CALL", call)
        assert probe("provider", "CUDAExecutionProvider")["error"] == reason


def test_a_probe_that_crashes_hangs_or_says_nothing_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mclip.doctor.probe, "_CALL", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert probe("numba") == {"error": "it crashed (SIGSEGV)"}
    monkeypatch.setattr(mclip.doctor.probe, "_CALL", "raise SystemExit('no driver')")
    assert probe("numba") == {"error": "no driver"}
    monkeypatch.setattr(mclip.doctor.probe, "_CALL", "import time; time.sleep(60)")
    monkeypatch.setattr(mclip.doctor.probe, "_SECONDS", 0.3)
    found = probe("numba")
    assert found["late"]
    assert "less busy" in mclip.doctor.probe.step(found, "pip install x")


def install(folder: Path, name: str, version: str, *requires: str) -> None:
    """What pip leaves of a package that comes before the one that is installed."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {each}" for each in requires), ""]))


def test_two_wheels_of_onnxruntime_are_an_error_with_the_commands_that_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert packages.onnxruntime(Places())[0].status == OK
    for name in ("onnxruntime", "onnxruntime-gpu"):
        install(tmp_path, name, "1.23.0")
    monkeypatch.syspath_prepend(str(tmp_path))
    (finding,) = packages.onnxruntime(Places())
    assert finding.status == ERROR
    uninstall, reinstall = finding.step.splitlines()
    assert uninstall == "pip uninstall -y onnxruntime onnxruntime-gpu"
    assert reinstall.startswith('pip install "onnxruntime')


def test_packages_that_are_too_old_or_want_others_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "rich", "1.0")
    install(tmp_path, "tokenizers", "0.23.3", "numpy<1", "there-is-no-such-package")
    monkeypatch.syspath_prepend(str(tmp_path))
    (finding,) = packages.required(Places())
    assert (finding.status, finding.step) == (ERROR, 'pip install "rich>=13.7"')
    assert "rich is 1.0" in finding.text
    texts = [finding.text for finding in packages.conflicts(Places())]
    assert any(text.startswith("tokenizers 0.23.3 wants numpy<1, there is ") for text in texts)
    assert "tokenizers 0.23.3 needs there-is-no-such-package, which is missing" in texts


def test_chumpy_and_openai_clip_are_known_to_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "chumpy", "0.70")
    install(tmp_path, "setuptools", "84.0.0")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = packages.known_trouble(Places())
    (chumpy,) = named(found, "chumpy")
    assert (chumpy.status, "without it" in chumpy.text) == (OK, True)
    for clip in named(found, "openai-clip"):
        assert "pkg_resources" in clip.text


def test_thread_variables_that_mean_nothing_or_too_much_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "two")
    monkeypatch.setenv("NUMBA_NUM_THREADS", "9999")
    found = [finding for finding in machine.processors(Places()) if "NUM_THREADS" in finding.text]
    assert [(finding.status, finding.step.split("=")[0]) for finding in found] == [
        (WARNING, "unset OMP_NUM_THREADS"),
        (WARNING, "export NUMBA_NUM_THREADS"),
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc takes no files")
def test_a_folder_that_cannot_be_written_is_told_with_the_variable_that_moves_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    here, temporary, downloads = machine.disk(Places())
    assert (here.status, temporary.status, downloads.status) == (OK, OK, WARNING)
    assert "XDG_CACHE_HOME" in downloads.step


@pytest.fixture(scope="module")
def amass(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "amass"
    write_amass_tree(folder)
    return folder


def test_an_amass_folder_is_explained_data_set_by_data_set(amass: Path) -> None:
    found = assets.amass(Places(amass=amass))
    texts = {finding.text: finding.status for finding in found}
    shown = "\n".join(texts)
    assert "recordings of 7 of 24 data sets; absent: BMLhandball, " in shown
    assert "BMLrub (as BioMotionLab_NTroje): 1 recordings; the first has 120 fps" in shown
    assert "Transitions (as Transitions_mocap): 1 recordings; the first has 250 fps" in shown
    assert "passed over, as they are no motion: " in shown
    assert "1 .mp4" in shown
    (broken,) = (finding for finding in found if finding.status == WARNING)
    assert "KIT: KIT/3/kick_poses.npz cannot be read" in broken.text
    assert broken.step


def test_recordings_of_two_releases_and_archives_are_pointed_out(tmp_path: Path, amass: Path) -> None:
    folder = tmp_path / "amass"
    for name in ("KIT/3/walking_slow08_poses.npz", "KIT/3/walking_slow08_stageii.npz"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(amass / "KIT/3/walking_slow08_poses.npz", folder / name)
    (folder / "CMU.tar.bz2").write_bytes(b"")
    found = {finding.text: finding for finding in assets.amass(Places(amass=folder)) if finding.status == WARNING}
    twice, archive = sorted(found)
    assert "1 archives are not unpacked, such as CMU.tar.bz2" in (twice, archive)
    assert found["1 archives are not unpacked, such as CMU.tar.bz2"].step == f"cd {folder}\ntar xf CMU.tar.bz2"
    assert any("KIT/3/walking_slow08" in text and "more than once" in text for text in found)


def test_a_folder_that_is_no_amass_is_an_error(tmp_path: Path) -> None:
    (finding,) = assets.amass(Places(amass=tmp_path))
    assert (finding.status, "no data set of AMASS" in finding.text) == (ERROR, True)


def test_babel_is_counted_and_compared_with_amass(tmp_path: Path, amass: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_babel(tmp_path / "babel")
    found = assets.babel(Places(amass=amass, babel=tmp_path / "babel"))
    assert found[0].status == OK
    assert "train.json, val.json" in found[0].text
    assert found[1].status == WARNING
    assert "50002_chicken_wings" in found[1].text
    (tmp_path / "babel" / "val.json").unlink()
    monkeypatch.setattr(mclip.doctor, "CHECKS", (assets.babel,))
    (finding,) = mclip.doctor.examine(Places(babel=tmp_path / "babel"))
    assert (finding.name, finding.status, "val.json" in finding.text) == ("BABEL", ERROR, True)


def test_body_files_are_known_by_name_content_and_hash(tmp_path: Path) -> None:
    body = load_body()
    arrays: dict[str, Any] = {
        "v_template": body.v_template,
        "f": body.faces,
        "weights": body.weights,
        "shapedirs": body.shapedirs,
        "J_regressor": body.J_regressor,
        "kintree_table": np.stack([body.parents, np.arange(24)]),
    }
    np.savez(tmp_path / "SMPL_NEUTRAL.npz", **arrays)
    shutil.copy(tmp_path / "SMPL_NEUTRAL.npz", tmp_path / "basicmodel_m_lbs_10_207_0_v1.1.0.npz")
    (tmp_path / "smplh" / "male").mkdir(parents=True)
    np.savez(tmp_path / "smplh" / "male" / "model.npz", **(arrays | {"kintree_table": np.zeros((2, 52), np.int64)}))
    # A pickle that would run a program.
    (tmp_path / "SMPL_MALE.pkl").write_bytes(b"cposix\nsystem\n(S'touch ran'\ntR.")
    np.savez(tmp_path / "walk.npz", poses=np.zeros((1, 72)))
    _, *found = assets.bodies(Places(bodies=tmp_path))
    by_file = {finding.text.partition(":")[0]: finding for finding in found}
    assert set(by_file) == {
        "SMPL_MALE.pkl",
        "SMPL_NEUTRAL.npz",
        "basicmodel_m_lbs_10_207_0_v1.1.0.npz",
        "smplh/male/model.npz",
    }
    assert by_file["SMPL_NEUTRAL.npz"].status == OK
    assert re.search(r"SMPL, sha256 [0-9a-f]{12}: 6890 vertices", by_file["SMPL_NEUTRAL.npz"].text)
    assert "the same as SMPL_NEUTRAL.npz" in by_file["basicmodel_m_lbs_10_207_0_v1.1.0.npz"].text
    assert "SMPL+H" in by_file["smplh/male/model.npz"].text
    assert by_file["SMPL_MALE.pkl"].status == WARNING
    assert "posix.system" in by_file["SMPL_MALE.pkl"].text
    assert not Path("ran").exists()


def test_an_empty_folder_of_bodies_says_where_to_get_one(tmp_path: Path) -> None:
    *_, finding = assets.bodies(Places(bodies=tmp_path))
    assert (finding.status, "smpl.is.tue.mpg.de" in finding.step) == (ERROR, True)


def test_clip_weights_are_told_by_their_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MCLIP_CLIP_WEIGHTS", raising=False)
    (absent,) = assets.clip_weights(Places())
    assert (absent.status, "354 MB" in absent.text) == (OK, True)
    wrong = tmp_path / "ViT-B-32.pt"
    wrong.write_bytes(b"half of it")
    (finding,) = assets.clip_weights(Places(clip_weights=wrong))
    assert (finding.status, "sha256" in finding.text) == (ERROR, True)
    monkeypatch.setenv("MCLIP_CLIP_WEIGHTS", str(tmp_path / "nowhere.pt"))
    (finding,) = assets.clip_weights(Places())
    assert (finding.status, "(MCLIP_CLIP_WEIGHTS): no such file" in finding.text) == (ERROR, True)


def test_a_pack_is_explained(
    tiny_pack: Pack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runner(monkeypatch, capsys)
    code, out, err = run("doctor", str(tiny_pack.path), "--require-sha256", tiny_pack.digest)
    assert (code, err) == (0, "")
    for line in (
        f"sha256          {tiny_pack.digest}",
        "licence         CC0-1.0",
        "trained on      9 motions: made 9",
        "  on motion     joints ",
        "ok       graphs          all 3 run on",
    ):
        assert line in out
    for name in tiny_pack.manifest.files:
        assert f"ok       file            {name}: " in out
    code, out, _ = run("doctor", str(tiny_pack.path), "--json")
    found = json.loads(out)
    assert (code, found["sha256"]) == (0, tiny_pack.digest)
    assert found["manifest"]["recipe"] == json.loads(json.dumps(tiny_pack.manifest.recipe))
    assert found["manifest"]["graphs"]["motion_decoder"]["parity"]["stored"] > 0


def test_a_damaged_pack_names_each_wrong_file_and_ends_with_6(
    pack_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(pack_copy / "motion_encoder.onnx")
    (pack_copy / "LICENSE").unlink()
    (pack_copy / "notes.txt").write_text("mine", encoding="utf-8")
    code, out, _ = runner(monkeypatch, capsys)("doctor", str(pack_copy), "--json")
    found = {each["text"].partition(":")[0]: each for each in json.loads(out)["findings"] if each["name"] == "file"}
    assert code == 6
    wrong = {name for name, each in found.items() if each["status"] == ERROR}
    assert wrong == {"motion_encoder.onnx", "LICENSE"}
    assert "sha256 does not match" in found["motion_encoder.onnx"]["text"]
    assert "is missing" in found["LICENSE"]["text"]
    assert found["not in the manifest, never opened"]["status"] == WARNING


def test_what_is_no_pack_or_another_than_required_ends_with_6(
    tiny_pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runner(monkeypatch, capsys)
    code, out, err = run("doctor", str(tmp_path))
    assert (code, out) == (6, "")
    assert "not a pack" in err
    code, out, err = run("doctor", str(tiny_pack.path), "--require-sha256", "0" * 64)
    assert (code, out) == (6, "")
    assert tiny_pack.digest in err
    assert run("doctor", str(tiny_pack.path), "--amass", str(tmp_path)).code == 2
