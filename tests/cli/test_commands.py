"""The commands end to end on the demo checkpoint: output, messages, exit codes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime import Aquila2Runtime, Message, SamplingParams, __version__, cache_size
from aquila2_runtime.cli.diagnosis import check_checkpoint
from aquila2_runtime.cli.generate import _print_text
from aquila2_runtime.errors import OutOfMemoryError
from aquila2_runtime.load_options import LoadOptions
from tests.cli.conftest import Run, environment

TEXT = "图书馆早上八点开门。图书馆的馆长是李文静。"
QUESTION = "图书馆的馆长是谁？"


def test_version_and_help_need_no_model(process: Run) -> None:
    assert process("--version").stdout == f"aquila2 {__version__}\n"
    text = process("--help").stdout
    for command in ("chat", "generate", "download", "doctor"):
        assert command in text


def test_without_typer_the_extra_is_named(root: Path) -> None:
    script = "import sys; sys.modules['typer'] = None\nfrom aquila2_runtime.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=root
    )
    assert done.returncode == 2
    assert 'pip install "aquila2[cli]"' in done.stderr
    assert done.stdout == ""


def test_generate_prints_what_the_runtime_answers(
    process: Run, demo_flags: list[str], demo_runtime: Aquila2Runtime
) -> None:
    done = process("generate", f"{TEXT}\n\n{QUESTION}", *demo_flags, "--max-tokens", "32")
    expected = demo_runtime.chat(
        [Message("user", f"{TEXT}\n\n{QUESTION}")], SamplingParams(temperature=0, max_tokens=32)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == expected.text + "\n"
    assert "Traceback" not in done.stderr


def test_generate_holds_the_answer_to_a_form(
    aquila2: Run, demo_flags: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "schema.json"
    path.write_text('{"properties": {"a": {"type": "integer"}}, "required": ["a"]}', "utf-8")
    flags = [*demo_flags, "--max-tokens", "40", "-q"]
    done = aquila2("generate", QUESTION, "--json-schema", str(path), *flags)
    assert list(json.loads(done.stdout)) == ["a"], done.stderr
    done = aquila2("generate", QUESTION, "--choice", "是", "--choice", "否", *flags)
    assert done.stdout in ("是\n", "否\n")
    done = aquila2("generate", QUESTION, "--regex", "[0-9]{3}", *flags)
    assert len(done.stdout) == 4 and done.stdout[:3].isdigit()
    both = aquila2("generate", QUESTION, "--regex", "a", "--choice", "a", *flags)
    assert both.returncode == 2 and "--choice exclude" in both.stderr
    path.write_text("{", "utf-8")
    broken = aquila2("generate", QUESTION, "--json-schema", str(path), *flags)
    assert broken.returncode == 2 and "holds no JSON" in broken.stderr


def test_generate_json_is_one_object_with_everything(
    aquila2: Run, demo_flags: list[str], demo_runtime: Aquila2Runtime, tmp_path: Path
) -> None:
    (tmp_path / "notice.txt").write_text(TEXT, "utf-8")
    arguments = ["--document", str(tmp_path / "notice.txt"), "--system", "简短回答。", "--json"]
    done = aquila2("generate", *arguments, *demo_flags, "--max-tokens", "16", stdin=QUESTION)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    messages = [Message("system", "简短回答。"), Message("user", f"{TEXT}\n\n{QUESTION}")]
    expected = demo_runtime.chat(messages, SamplingParams(temperature=0, max_tokens=16))
    assert found["text"] == expected.text
    assert found["token_ids"] == list(expected.token_ids)
    assert found["finish_reason"] == str(expected.finish_reason)
    assert found["usage"]["prompt_tokens"] == len(expected.prompt_token_ids)
    assert done.stdout.count("\n") == 1


def test_raw_continues_the_text_without_a_template(
    aquila2: Run, demo_flags: list[str], demo_runtime: Aquila2Runtime
) -> None:
    done = aquila2("generate", "--raw", "从前", *demo_flags, "--max-tokens", "8", "--json", "-q")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    expected = demo_runtime.complete("从前", SamplingParams(temperature=0, max_tokens=8))
    assert json.loads(done.stdout)["token_ids"] == list(expected.token_ids)


def test_model_text_loses_its_control_sequences_on_the_way_to_the_terminal(
    demo_runtime: Aquila2Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    """W7: a model made to say nothing but escape characters; raw shows them, the default not."""
    (escape,) = demo_runtime.tokenizer.encode_ordinary("\x1b")
    params = SamplingParams(temperature=0, max_tokens=5, logit_bias={escape: 100.0})
    _print_text(demo_runtime, "x", params, {}, raw_output=True)
    assert capsys.readouterr().out == "\x1b" * 5 + "\n"
    _print_text(demo_runtime, "x", params, {}, raw_output=False)
    assert capsys.readouterr().out == "\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generate", "x", "--temperature", "9"], "temperature=9.0"),
        (["generate", "x", "--model", "AquilaChat3-7B"], "Did you mean"),
        (["generate", "x", "--model", "./nowhere"], "no directory"),
        (["generate", "x", "--device", "tpu"], "device='tpu'"),
        (["generate", "x", "--max-tokens", "many"], "max-tokens"),
        (["generate", "--raw", "x", "--system", "y"], "--raw"),
        (["generate", "x", "--question-first"], "--document"),
        (["generate", "x", "--kv-cache-dtype", "int3"], "kv_cache_dtype='int3'"),
        (["chat", "--kv-cache-memory", "much"], "kv_cache_memory='much'"),
        (["convert", "./a", "./b", "--source", "github"], "source='github'"),
        (["generate", "x", "--document", "nowhere.txt"], "nowhere.txt"),
        (["chat", "--seed", "99999999999999999999"], "seed"),
        (["download", "../evil"], "evil"),
        (["nothing"], "nothing"),
    ],
)
def test_mistakes_of_the_caller_exit_with_2_and_no_traceback(
    aquila2: Run, arguments: list[str], said: str
) -> None:
    done = aquila2(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_debug_shows_the_traceback(process: Run) -> None:
    done = process("generate", "x", "--temperature", "9", "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_a_prompt_that_does_not_fit_is_refused_and_fit_shortens_it(
    aquila2: Run, demo_flags: list[str]
) -> None:
    """P8: on the command line too."""
    long = "很久以前有一座山。" * 800
    refused = aquila2("generate", *demo_flags, "--max-tokens", "4", stdin=long)
    assert refused.returncode == 2
    assert "hint:" in refused.stderr
    fitted = aquila2("generate", *demo_flags, "--max-tokens", "4", "--fit", "middle", stdin=long)
    assert fitted.returncode == 0, fitted.stderr
    assert "note:" in fitted.stderr


def test_a_reader_that_goes_away_causes_no_complaint(root: Path, demo_flags: list[str]) -> None:
    command = [sys.executable, "-m", "aquila2_runtime.cli", "generate", "x", "-q", *demo_flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root)
    if process.stdout is None or process.stderr is None:
        pytest.fail("the pipes were asked for")
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait(100) == 1
    process.stderr.close()
    assert b"Traceback" not in said
    assert b"BrokenPipe" not in said


def test_chat_remembers_resets_and_ends(aquila2: Run, demo_flags: list[str]) -> None:
    lines = "我叫李雷，我住在杭州。\n我住在哪里？\n/reset\n\n/exit\nnever read\n"
    done = aquila2("chat", *demo_flags, "--max-tokens", "32", stdin=lines)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert "杭州" in done.stdout.splitlines()[1]
    assert "forgotten" in done.stderr


def test_chat_goes_on_after_a_message_it_cannot_take(aquila2: Run, demo_flags: list[str]) -> None:
    done = aquila2("chat", *demo_flags, "--max-tokens", "8", stdin="山" * 99_999 + "\n你好\n")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("error:") == 1
    assert len(done.stdout.splitlines()) == 1


def test_chat_goes_on_after_an_answer_that_failed(
    aquila2: Run, demo_flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device ran out of memory for one message: the conversation is not over."""
    real, failed = Aquila2Runtime.stream_chat, list[bool]()

    def once(self: Aquila2Runtime, *args: Any, **kwargs: Any) -> Any:
        if not failed:
            failed.append(True)
            raise OutOfMemoryError("No memory for this one.")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Aquila2Runtime, "stream_chat", once)
    done = aquila2("chat", *demo_flags, "--max-tokens", "8", stdin="你好\n你好\n")
    assert done.returncode == 0, done.stderr
    assert "error: No memory for this one." in done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_chat_goes_on_after_a_line_that_is_no_text(aquila2: Run, demo_flags: list[str]) -> None:
    """The conversation was lost to one pasted byte."""
    lines = b"h\xffi\n" + "你好\n".encode()
    done = aquila2("chat", *demo_flags, "--max-tokens", "8", stdin=lines)
    assert done.returncode == 0, done.stderr
    assert "the byte 0xFF" in done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_a_file_that_is_not_utf_8_is_named_and_a_byte_order_mark_is_none_of_its_text(
    aquila2: Run, demo_flags: list[str], tmp_path: Path
) -> None:
    notice = "图书馆的电话是6217。"
    for name, encoding in (("gbk", "gb18030"), ("plain", "utf-8"), ("marked", "utf-8-sig")):
        (tmp_path / name).write_bytes(notice.encode(encoding))
    for option in ("--document", "--json-schema"):
        refused = aquila2("generate", "x", option, str(tmp_path / "gbk"))
        assert refused.returncode == 2
        assert f"{tmp_path / 'gbk'} is not UTF-8: byte 0xca at position 2" in refused.stderr
        assert "iconv" in refused.stderr
    piped = aquila2("generate", stdin=notice.encode("gb18030"))
    assert piped.returncode == 2
    assert "Standard input is not UTF-8" in piped.stderr
    asked = ["generate", "--json", "--max-tokens", "4", *demo_flags, "x", "--document"]
    plain, marked = (json.loads(aquila2(*asked, str(tmp_path / name)).stdout) for name in
                     ("plain", "marked"))  # fmt: skip
    assert marked["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"]
    assert marked["token_ids"] == plain["token_ids"]


def test_without_standard_streams_what_can_be_said_is_said(
    root: Path, demo_flags: list[str]
) -> None:
    """A service may have none; the first file that is opened must not take their place."""
    command = [sys.executable, "-m", "aquila2_runtime.cli", "generate", *demo_flags]
    for closing, prompt, code, said in (
        ("<&- 2>&-", ["x", "--choice", "yes"], 0, ("yes\n", "")),
        ("<&-", [], 2, ("", "There is no prompt.")),
    ):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closing}', "sh", *command, *prompt],
            capture_output=True, text=True, check=False, cwd=root, env=environment(), timeout=100,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (code, said[0])
        assert said[1] in done.stderr
        assert "fault of aquila2" not in done.stderr


def test_download_prints_where_the_files_are(
    aquila2: Run, demo_path: Path, demo_model: str
) -> None:
    done = aquila2("download", demo_model, "-q")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == demo_path.resolve()


def test_doctor_finds_the_demo_checkpoint_sound(
    aquila2: Run, demo_path: Path, demo_model: str
) -> None:
    """W6: every check passes, and the JSON reads back."""
    done = aquila2("doctor", demo_model, "--deep", "--json", "--device", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert report["versions"]["aquila2"] == __version__
    names = [check["name"] for check in report["checks"]]
    assert {"files", "config", "tokenizer", "weights", "numbers", "device", "memory"} <= set(names)


def test_doctor_hides_names_and_tokens(aquila2: Run, tmp_path: Path, demo_path: Path) -> None:
    """W6: a home directory, a user's name and a token never reach the report."""
    secret = "hf_" + "x1Y2" * 8
    home = tmp_path / "home" / "wangxiaoming"
    shutil.copytree(demo_path, home / "model")
    done = aquila2(
        "doctor",
        str(home / "model"),
        HOME=str(home),
        USER="wangxiaoming",
        LOGNAME="wangxiaoming",
        HF_TOKEN=secret,
        HF_HOME=str(home / "cache"),
        HF_ENDPOINT="https://me:pw@mirror.example",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wangxiaoming" not in done.stdout + done.stderr
    assert secret not in done.stdout + done.stderr
    assert "me:pw" not in done.stdout
    assert "HF_TOKEN: set" in done.stdout


def test_doctor_names_what_is_wrong_and_exits_with_1(
    aquila2: Run, tmp_path: Path, demo_path: Path
) -> None:
    """L3: a truncated weight file."""
    broken = tmp_path / "broken"
    shutil.copytree(demo_path, broken)
    (broken / "model.safetensors").chmod(0o644)
    with (broken / "model.safetensors").open("r+b") as file:
        file.truncate(100_000)
    done = aquila2("doctor", str(broken))
    assert done.returncode == 1
    assert "PROBLEM" in done.stdout
    assert "model.safetensors" in done.stdout
    assert "Traceback" not in done.stderr


def test_doctor_deep_finds_a_weight_that_is_not_a_number(
    aquila2: Run, tmp_path: Path, demo_path: Path
) -> None:
    """L5: a well-formed file with NaN inside."""
    from safetensors.torch import load_file, save_file

    poisoned = tmp_path / "poisoned"
    shutil.copytree(demo_path, poisoned)
    file = poisoned / "model.safetensors"
    file.chmod(0o644)
    tensors = load_file(file)
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    assert aquila2("doctor", str(poisoned)).returncode == 0
    done = aquila2("doctor", str(poisoned), "--deep")
    assert done.returncode == 1
    assert "model.norm.weight" in done.stdout


def test_doctor_never_asks_a_hub(process: Run) -> None:
    """W6: without the offline switch too; the address given would refuse at once."""
    done = process(
        "doctor",
        "AquilaChat2-7B",
        HF_HUB_OFFLINE="0",
        HF_ENDPOINT="http://127.0.0.1:9",
        HF_HOME="/nonexistent",
    )
    assert done.returncode == 1
    assert "127.0.0.1:9" not in done.stdout.split("checkpoint", 1)[1]
    assert "PROBLEM" in done.stdout


def test_doctor_says_what_a_released_model_would_need_before_it_is_there(process: Run) -> None:
    wanted = ("doctor", "AquilaChat2-34B", "--json", "--quantization", "nf4", "--device", "cpu")
    done = process(*wanted, HF_HUB_OFFLINE="0", HF_HOME="/nonexistent")
    assert done.returncode == 1
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert "aquila2 download" in checks["ModelNotFoundError"]["detail"]
    assert "33,694 M parameters, 60 layers" in checks["config"]["detail"]
    told = checks.get("memory") or checks["InsufficientMemoryError"]
    assert re.search(r"weights \(nf4\) +19\.30 GiB", told["detail"])
    assert "runs: " in checks["attention"]["detail"]


def test_doctor_refuses_a_cache_that_loading_would_refuse(
    monkeypatch: pytest.MonkeyPatch, process: Run
) -> None:
    monkeypatch.setattr(cache_size, "available_memory", lambda device: 2**30)
    wanted = LoadOptions(model="aquila2-demo", device="cpu", kv_cache_memory="2GiB")
    failed = [check for check in check_checkpoint(wanted, deep=False) if not check.ok]
    assert [check.name for check in failed] == ["InsufficientMemoryError"]
    assert "kv_cache_memory=2048 MiB" in failed[0].detail
    of_another = process("doctor", "AquilaChat2-7B", "--revision", "v1", HF_HOME="/nonexistent")
    assert "as released" not in of_another.stdout


def test_convert_makes_a_checkpoint_that_answers(
    process: Run, demo_path: Path, tmp_path: Path
) -> None:
    made = tmp_path / "converted"
    done = process("convert", str(demo_path), str(made), "--dtype", "float32")
    assert (done.returncode, done.stdout) == (0, f"{made}\n"), done.stderr
    prompt = ("--model", str(made), "--template", "aquila-v1", "--temperature", "0")
    answer = process("generate", QUESTION, *prompt, "--device", "cpu", "--quiet")
    assert answer.returncode == 0, answer.stderr
    again = process("convert", str(demo_path), str(made))
    assert again.returncode == 2
    assert "exists" in again.stderr


def test_convert_packs_a_checkpoint_and_doctor_knows_its_form(
    aquila2: Run, demo_path: Path, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    made = tmp_path / "packed"
    done = aquila2("convert", str(demo_path), "--quantization", "nf4", "--out", str(made), "-q")
    assert (done.returncode, done.stdout) == (0, f"{made}\n"), done.stderr
    found = json.loads(aquila2("doctor", str(made), "--device", "cpu", "--json").stdout)
    assert found["ok"] is True
    asked = aquila2("doctor", str(made), "--device", "cpu", "--quantization", "int8")
    assert asked.returncode == 1
    assert "NF4" in asked.stdout
    for places in ((), (str(tmp_path / "a"), "--out", str(tmp_path / "b"))):
        wrong = aquila2("convert", str(demo_path), *places)
        assert wrong.returncode == 2
        assert "--out" in wrong.stderr
