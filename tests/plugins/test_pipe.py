"""mailserv_pipe: what a command is given, what its end means, and that it cannot hold anybody up."""

from __future__ import annotations

import ast
import os
import re
import select
import smtplib
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from delivering import CONTENT, Blocks, make_delivery, make_transport, outcomes

from mailserv.errors import ConfigError, StoreUnavailable
from mailserv.mail.delivery import Delivery
from mailserv.mail.message import BLOCK
from mailserv.mail.outcome import Deferred, Delivered, Failed, Outcome
from mailserv.settings import Plugins
from mailserv.testing.server import mail_server
from mailserv_pipe.running import KEPT, run


def python(text: str) -> list[str]:
    """An argv that runs a few lines of Python."""
    return [sys.executable, "-IS", "-c", text]


def deliver(argv: list[str], delivery: Delivery | None = None, **settings: Any) -> Outcome:
    transport = make_transport("pipe", {"commands": {"it": {"argv": argv, **settings}}})
    (outcome,) = outcomes(transport, delivery or make_delivery("pipe:it"))
    return outcome


def keep(folder: Path) -> list[str]:
    """A command that keeps what it reads and is told."""
    return python(
        f"import os, sys; open({str(folder / 'content')!r}, 'wb').write(sys.stdin.buffer.read());"
        f"open({str(folder / 'about')!r}, 'w').write(repr((sys.argv[1:], dict(os.environ), os.getcwd())))"
    )


def about(folder: Path) -> tuple[list[str], Mapping[str, str], str]:
    told: tuple[list[str], Mapping[str, str], str] = ast.literal_eval((folder / "about").read_text())
    return told


def test_a_command_reads_the_content_with_its_paths_above_it(tmp_path: Path) -> None:
    outcome = deliver(keep(tmp_path))
    assert isinstance(outcome, Delivered)
    assert str(outcome.reply) == "250 2.0.0 Delivered to the command"
    assert (tmp_path / "content").read_bytes() == (
        b"Return-Path: <alice@example.org>\nDelivered-To: bob@example.net\n" + CONTENT.replace(b"\r\n", b"\n")
    )
    assert stat.S_IMODE((tmp_path / "content").stat().st_mode) == 0o600


def test_crlf_is_kept_where_it_is_wanted(tmp_path: Path) -> None:
    deliver(keep(tmp_path), line_ends="crlf")
    assert (tmp_path / "content").read_bytes().endswith(CONTENT)


def test_it_is_told_the_envelope_and_nothing_of_our_own_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "x")
    delivery = make_delivery("pipe:it", '"a b; rm -rf"@example.net', reverse_path="")
    deliver(
        [*keep(tmp_path), "--to={recipient}", "-f", "{sender}", "{queue_id} $(id) {unknown}"],
        delivery,
        environment={"LIST": "dev", "SENDER": "never"},
        directory=str(tmp_path),
    )
    argv, environment, directory = about(tmp_path)
    assert argv == ['--to="a b; rm -rf"@example.net', "-f", "", "06B2K7XG1Q4S0M3F $(id) {unknown}"]
    assert environment == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "LIST": "dev",
        "SENDER": "",
        "RECIPIENT": '"a b; rm -rf"@example.net',
        "ORIGINAL_RECIPIENT": '"a b; rm -rf"@example.net',
        "QUEUE_ID": "06B2K7XG1Q4S0M3F",
    }
    assert directory == str(tmp_path)


def test_an_address_never_becomes_an_option(tmp_path: Path) -> None:
    outcome = deliver([*keep(tmp_path), "{recipient}"], make_delivery("pipe:it", "-oQ/tmp@example.net"))
    assert isinstance(outcome, Failed)
    assert outcome.reply.enhanced == "5.1.3"
    assert not (tmp_path / "content").exists()


def test_each_recipient_is_a_run_of_its_own(tmp_path: Path) -> None:
    code = "import os, sys; sys.stdin.read(); sys.exit(67 * os.environ['RECIPIENT'].startswith('carol@'))"
    transport = make_transport("pipe", {"commands": {"it": {"argv": python(code)}}})
    bob, carol = outcomes(transport, make_delivery("pipe:it", "bob@example.net", "carol@example.net"))
    assert isinstance(bob, Delivered)
    assert isinstance(carol, Failed)


@pytest.mark.parametrize(
    ("code", "kind", "reply"),
    [
        (1, Failed, "554 5.3.0 The command ended with 1: hm"),
        (64, Failed, "554 5.3.5"),
        (65, Failed, "554 5.6.0"),
        (67, Failed, "550 5.1.1 User unknown: hm"),
        (68, Failed, "550 5.1.2"),
        (69, Failed, "554 5.3.0"),
        (71, Deferred, "451 4.3.0"),
        (74, Deferred, "451 4.3.0"),
        (75, Deferred, "451 4.3.0 Temporary failure: hm"),
        (77, Failed, "554 5.7.0"),
        (127, Deferred, "451 4.3.5"),
        (255, Failed, "554 5.3.0"),
    ],
)
def test_an_exit_code_is_read_as_sysexits_has_it(code: int, kind: type[Outcome], reply: str) -> None:
    outcome = deliver(python(f"import sys; sys.stdin.read(); print('hm'); sys.exit({code})"))
    assert isinstance(outcome, kind)
    assert str(outcome.reply).startswith(reply)


def test_a_command_that_dies_of_a_signal_says_nothing_about_the_message() -> None:
    outcome = deliver(python("import os; os.kill(os.getpid(), 11)"))
    assert isinstance(outcome, Deferred)
    assert "SIGSEGV" in outcome.reply.text


def test_what_it_prints_is_bounded_and_made_harmless() -> None:
    noise = "import sys; sys.stdout.write('\\x1b[31m500\\r\\n' + 'x' * 5_000_000); sys.exit(69)"
    outcome = deliver(python(noise))
    text = outcome.reply.text
    assert text.startswith("Service unavailable: ?[31m500 xxx")
    assert text.isprintable()
    assert len(text) < 300


def test_only_so_much_of_the_output_is_kept() -> None:
    ran = run(python("print('x' * 1_000_000)"), {}, "/", "", iter([]), 60)
    assert (ran.code, len(ran.output)) == (0, KEPT)


# It cannot hold anybody up.


def test_a_command_that_does_not_end_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    script = (
        f"import os, time; child = os.fork(); open({str(tmp_path)!r} + '/' + str(os.getpid()), 'w'); time.sleep(600)"
    )
    outcome = deliver(python(script), timeout="1s")
    assert isinstance(outcome, Deferred)
    assert "too long" in outcome.reply.text
    assert [path.name for path in tmp_path.iterdir() if is_running(int(path.name))] == []


def is_running(pid: int) -> bool:
    """Whether it still is after 10 s: who was killed may take a moment to go."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        return not select.select([process], [], [], 10)[0]
    finally:
        os.close(process)


def test_a_child_that_keeps_the_output_open_is_not_waited_for() -> None:
    outcome = deliver(python("import os, time; os.fork() or time.sleep(600)"), timeout="60s")
    assert isinstance(outcome, Delivered)


def test_a_command_that_reads_nothing_may_still_say_yes() -> None:
    parts = tuple(b"x" * BLOCK for _ in range(8))
    assert isinstance(deliver(["/bin/true"], make_delivery("pipe:it", content=Blocks(parts))), Delivered)


def test_a_command_that_prints_while_it_reads_blocks_nobody(tmp_path: Path) -> None:
    parts = tuple(b"x" * BLOCK for _ in range(8))
    outcome = deliver(["/bin/cat"], make_delivery("pipe:it", content=Blocks(parts)), timeout="60s")
    assert isinstance(outcome, Delivered)


def test_content_that_cannot_be_read_is_never_taken_for_the_whole(tmp_path: Path) -> None:
    class Broken(Blocks):
        def blocks(self) -> Any:
            yield b"half"
            raise StoreUnavailable("gone")

    with pytest.raises(StoreUnavailable):
        deliver(keep(tmp_path), make_delivery("pipe:it", content=Broken(())))
    assert not (tmp_path / "about").exists()


def test_no_descriptor_and_no_process_is_left_behind() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    deliver(["/bin/true"])
    deliver(["/bin/sleep", "600"], timeout="1s")
    deliver(["/not/there"])
    assert sorted(os.listdir("/proc/self/fd")) == before


# The operator's mistakes make mail wait.


@pytest.mark.parametrize(
    ("argv", "settings"),
    [
        (["/not/there"], {}),
        (["/etc/passwd"], {}),
        (["/bin/true"], {"directory": "/not/there"}),
        (["/bin/true"], {"user": "nobody-of-that-name"}),
    ],
)
def test_a_command_that_cannot_be_started_makes_mail_wait(argv: list[str], settings: dict[str, Any]) -> None:
    outcome = deliver(argv, **settings)
    assert isinstance(outcome, Deferred)
    assert outcome.reply.text == "Local error in processing; try again later"


def test_a_command_that_nobody_set_up_makes_mail_wait() -> None:
    outcome = deliver(["/bin/true"], make_delivery("pipe:other"))
    assert isinstance(outcome, Deferred)


@pytest.mark.parametrize("argv", [[], ["true"], ["./true"], "true", ["/bin/{recipient}"], ["/bin/true", "\0"]])
def test_an_argv_without_a_whole_path_stops_the_start(argv: Any) -> None:
    with pytest.raises(ConfigError, match=r"plugin\.pipe\."):
        make_transport("pipe", {"commands": {"it": {"argv": argv}}})


@pytest.mark.parametrize(
    "argv",
    [
        ["/bin/sh", "-c", "new-ticket {recipient}"],
        ["/usr/bin/env", "A=b", "bash", "-o", "pipefail", "-ec", "--", "new-ticket '{sender}' | cat"],
    ],
)
def test_an_address_is_no_part_of_a_shell_s_script(argv: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"plugin\.pipe\.commands\.it: argv: a shell"):
        make_transport("pipe", {"commands": {"it": {"argv": argv}}})


def test_a_shell_s_script_may_have_an_address_as_an_argument() -> None:
    script = ["/bin/sh", "-c", 'echo "<$1>"', "sh", "{recipient}"]
    outcome = deliver(script, make_delivery("pipe:it", "alice+`id`@example.org"))
    assert "<alice+`id`@example.org>" in outcome.reply.text


@pytest.mark.parametrize("its", [{"environment": {"A=B": "c"}}, {"environment": {"A": "\0"}}, {"directory": "/\0"}])
def test_what_no_program_can_be_given_stops_the_start(its: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"plugin\.pipe\."):
        make_transport("pipe", {"commands": {"it": {"argv": ["/bin/true"], **its}}})


def test_a_command_runs_as_another_user_where_we_are_root(tmp_path: Path) -> None:
    outcome = deliver(["/usr/bin/id"], user="nobody")
    if os.geteuid() == 0:
        assert re.search(r"uid=65534\(nobody\) gid=65534\(\w+\) groups=65534\(\w+\)$", outcome.reply.text)
    else:
        assert isinstance(outcome, Deferred)


# In the server.


def test_mail_that_is_routed_there_runs_the_command(tmp_path: Path) -> None:
    with mail_server(
        plugins=Plugins(enabled=("pipe",)),
        plugin={"pipe": {"commands": {"keep": {"argv": keep(tmp_path)}, "gone": {"argv": ["/not/there"]}}}},
        routes={"far.example": "pipe:keep", "near.example": "pipe:gone"},
    ) as server:
        server.send("alice@example.org", ["bob@far.example"], b"Hi.\r\n", login=("alice@example.org", "secret"))
        server.wait_for_log("delivery", outcome="delivered", route="pipe:keep")
        assert about(tmp_path)[1]["RECIPIENT"] == "bob@far.example"
        server.send("alice@example.org", ["bob@near.example"], b"Hi.\r\n", login=("alice@example.org", "secret"))
        (line,) = server.wait_for_log("pipe_failed")
        assert (line["command"], line["recipient"]) == ("gone", "bob@near.example")
        assert "No such file" in line["error"]


def test_hook_resolve_recipient_gives_an_address_to_a_command(tmp_path: Path) -> None:
    command = {"argv": keep(tmp_path), "addresses": ["Tickets@example.org"]}
    with mail_server(plugins=Plugins(enabled=("pipe",)), plugin={"pipe": {"commands": {"keep": command}}}) as server:
        server.send("carol@example.net", ["tickets+42@example.org"], b"Hi.\r\n")
        server.wait_for_empty_queue()
        assert about(tmp_path)[1]["RECIPIENT"] == "tickets+42@example.org"
        with pytest.raises(smtplib.SMTPRecipientsRefused, match=r"5\.1\.1"):
            server.send("carol@example.net", ["ticket@example.org"], b"Hi.\r\n")
